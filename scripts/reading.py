"""What names mean in the code of a checkout: whose types, which calls, and where a configuration is passed on.

The code is read, and nothing of it is run. Types are those of annotations and of what classes assign to `self`; what
cannot be told from these is left out.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

Node = Any  # of a syntax tree: only some kinds have the attribute that is asked for


class Defined(NamedTuple):
    """A class, a function or another name of a module; of methods, their class too."""

    module: str
    node: Node
    owner: Any = None

    @property
    def is_class(self) -> bool:
        """Whether it is one."""
        return isinstance(self.node, ast.ClassDef)


Types = frozenset[Defined]
NONE: Types = frozenset()
READ: Types = frozenset({Defined("", "read")})  # the type of what was read from a configuration


class Package:
    """The modules of a checkout, and what the names in them mean."""

    def __init__(self, root: Path) -> None:
        self.root, paths = root, sorted((root / "cnntrain").rglob("*.py"))
        modules = [".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in paths]
        self.trees = {module: ast.parse(path.read_text("utf-8")) for module, path in zip(modules, paths, strict=True)}
        self.names = {module: dict(names_of(module, tree)) for module, tree in self.trees.items()}
        every = chain.from_iterable(names.values() for names in self.names.values())
        self.classes = [one for one in every if isinstance(one, Defined) and one.is_class]
        self.members: dict[tuple[Defined, str], Types] = {}
        self.configs = frozenset(one for one in self.classes if "Section" in [c.node.name for c in self.line(one)])
        self.keepers = more = self.configs
        while more:
            more = frozenset(one for one in self.classes if one not in self.keepers and self.keeps(one))
            self.keepers |= more

    def meaning(self, module: str, node: Node) -> Defined | str | None:
        """What a name means in a module: a definition or a module of ours; None where it is neither."""
        if isinstance(node, ast.Attribute):
            inside = self.meaning(module, node.value)
            return self.meaning(inside, node.attr) if isinstance(inside, str) else None
        name = node.id if isinstance(node, ast.Name) else node
        bound = self.names[module].get(name) if isinstance(name, str) else None
        if not isinstance(bound, str) or bound in self.trees:
            return bound
        origin, _, original = bound.rpartition(".")
        return self.meaning(origin, original) if origin in self.trees else None

    def named(self, module: str, annotation: Node, depth: int = 0) -> Types:
        """The classes of ours in an annotation, and in the aliases and tables that it names."""
        types = NONE
        for part in ast.walk(annotation) if annotation and depth < 5 else ():
            meant = self.meaning(module, part.value if isinstance(part, ast.Constant) else part)
            if isinstance(meant, Defined) and not isinstance(meant.node, ast.FunctionDef):
                types |= {meant} if meant.is_class else self.named(meant.module, meant.node, depth + 1)
        return types

    def returned(self, called: Defined) -> Types:
        """The classes of what a call may give."""
        if called.is_class or (called.owner and ast.unparse(called.node.returns or ast.Pass()) == "Self"):
            return frozenset({called if called.is_class else called.owner})
        return self.named(called.module, called.node.returns)

    def line(self, one: Defined) -> list[Defined]:
        """A class, and those of ours that it is derived from."""
        bases = [base for node in one.node.bases for base in self.named(one.module, node) if base != one]
        return [one, *chain.from_iterable(map(self.line, bases))]

    def methods(self, one: Defined, name: str) -> list[Defined]:
        """What a method may be: the class's own or the nearest base's, and those of classes derived from it."""
        lines = [self.line(one), *([other] for other in self.classes if one in self.line(other)[1:])]
        every = ([method for c in line for method in methods_of(c) if method.node.name == name] for line in lines)
        return [methods[0] for methods in every if methods]

    def member(self, one: Defined, name: str) -> Types:
        """The classes of an attribute or property."""
        if (one, name) not in self.members:
            self.members[one, name] = NONE  # while it is looked for
            self.members[one, name] = NONE.union(*(self._own_member(above, name) for above in self.line(one)))
        return self.members[one, name]

    def _own_member(self, one: Defined, name: str) -> Types:
        types = NONE.union(*(self.named(one.module, field.annotation) for field in fields(one, name)))
        for method in methods_of(one):
            types |= self.returned(method) if method.node.name == name else NONE
            if name in stored(method.node):
                visit = Visit(self, method)
                visit.visit(method.node)
                types |= visit.types.get(f"self.{name}", NONE) - READ
        return types

    def keeps(self, one: Defined) -> bool:
        """Whether an attribute of a class is a configuration, or keeps one."""
        names = {ast.unparse(field.target) for field in fields(one)} | stored(one.node)
        return any(self.keepers & self.member(one, name) for name in names)


class Visit(ast.NodeVisitor):
    """A function: the types of what its names stand for, the types met in it, and the calls that pass `config` on."""

    def __init__(
        self,
        package: Package,
        function: Defined,
        arguments: Mapping[str, Types] | None = None,
        enter: Callable[[Defined, dict[str, Types]], None] | None = None,
    ) -> None:
        self.package, self.module, self.arguments, self.enter = package, function.module, arguments or {}, enter
        self.types: dict[str, Types] = {"self": frozenset({function.owner})} if function.owner else {}
        self.met = NONE

    def of(self, node: Node) -> Types:
        """The types of a value, or in it."""
        if node is None or isinstance(node, ast.Name):
            return self.types.get(node.id, NONE) if node else NONE
        if isinstance(node, ast.Attribute):
            types = self.of(node.value)
            read = READ if types & (self.package.configs | READ) else NONE
            return read.union(*(self.package.member(one, node.attr) for one in types - READ))
        if isinstance(node, ast.Call) and (targets := self.targets(node.func)):
            return NONE.union(*map(self.package.returned, targets))
        return NONE.union(*map(self.of, ast.iter_child_nodes(node)))  # what a library takes is what it gives

    def targets(self, called: Node) -> list[Defined]:
        """The functions and classes of ours that a call may be of."""
        meant = self.package.meaning(self.module, called)
        if isinstance(meant, Defined):
            return [meant] if isinstance(meant.node, ast.FunctionDef | ast.ClassDef) else []
        receivers = self.of(called.value) - READ if isinstance(called, ast.Attribute) else NONE
        return [method for one in receivers for method in self.package.methods(one, called.attr)]

    def visit(self, node: Node) -> None:
        """Goes through the code as it is written."""
        match node:
            case ast.Raise():
                return
            case ast.FunctionDef():
                for argument in parameters(node):
                    self.types[argument.arg] = self._meet(argument.annotation) | self.arguments.get(
                        argument.arg, self.types.get(argument.arg, NONE)
                    )
                self._meet(node.returns)
            case ast.AnnAssign():
                self.types[ast.unparse(node.target)] = self._meet(node.annotation) | self.of(node.value)
            case ast.Assign(targets=[target]) | ast.NamedExpr(target=target):
                self._bind(target, node.value)
            case ast.withitem() if node.optional_vars:
                self._bind(node.optional_vars, node.context_expr)
            case ast.For():
                self._bind(node.target, node.iter)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                for part in node.generators:
                    self._bind(part.target, part.iter)
            case ast.Attribute(value=ast.Name()):
                self.met |= self.of(node.value) - READ
            case ast.ExceptHandler(type=type_) | ast.MatchClass(cls=type_):
                self._meet(type_)
        self.generic_visit(node)
        if isinstance(node, ast.Call):
            self._call(node)

    def _meet(self, annotation: Node) -> Types:
        types = self.package.named(self.module, annotation)
        self.met |= types
        return types

    def _bind(self, target: Node, value: Node) -> None:
        if not isinstance(target, ast.Tuple):
            self.types[ast.unparse(target)] = self.of(value)
            return
        for name, types in zip(target.elts, self._parts(value, target.elts), strict=False):
            self.types[ast.unparse(name)] = types

    def _parts(self, value: Node, names: Sequence[Node]) -> list[Types]:
        """The types of a tuple's parts: as they are written, as annotated, or as the attributes are that give names."""
        if isinstance(value, ast.Tuple):
            return [self.of(part) for part in value.elts]
        for called in self.targets(value.func) if isinstance(value, ast.Call) else ():
            match called.node:
                case ast.FunctionDef(returns=ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=parts))):
                    return [self.package.named(called.module, part) for part in parts]
        whole = self.of(value)
        of_name = [[self.package.member(one, ast.unparse(name)) for one in whole - READ] for name in names]
        return [(whole & READ).union(*types) for types in of_name]

    def _call(self, call: ast.Call) -> None:
        for target in self.targets(call.func):
            self.met |= {target} if target.is_class else NONE
            function = next(iter(self.package.methods(target, "__init__")), target) if target.is_class else target
            if function.is_class:
                names = [ast.unparse(field.target) for field in fields(function)]
            else:
                names = [argument.arg for argument in parameters(function.node)][bool(function.owner) :]
            given = {name: self.of(value) for name, value in zip(names, call.args, strict=False)}
            given |= {str(keyword.arg): self.of(keyword.value) for keyword in call.keywords}
            if isinstance(call.func, ast.Attribute):
                given["self"] = self.of(call.func.value) - READ
            passed = {name: types for name, types in given.items() if types & (self.package.keepers | READ)}
            if passed and self.enter:
                self.enter(function, passed)


def names_of(module: str, tree: ast.Module) -> Iterator[tuple[str, Defined | str]]:
    """What a module imports (where from) and defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, Defined(module, node)
        elif isinstance(node, ast.Assign):
            yield ast.unparse(node.targets[0]), Defined(module, node.value)


def methods_of(one: Defined) -> list[Defined]:
    """The methods that a class itself defines."""
    return [Defined(one.module, node, one) for node in one.node.body if isinstance(node, ast.FunctionDef)]


def fields(one: Defined, name: str | None = None) -> list[ast.AnnAssign]:
    """The annotated attributes of a class; of this name, if one is given."""
    every = [node for node in one.node.body if isinstance(node, ast.AnnAssign)]
    return [field for field in every if name in (None, ast.unparse(field.target))]


def stored(node: Node) -> set[str]:
    """The names of attributes that code assigns to."""
    return {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}


def parameters(function: Node) -> list[ast.arg]:
    """All of a function."""
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
