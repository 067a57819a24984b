"""The house rules of CONTRIBUTING.md that can be checked by reading the code."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from cnntrain.cli.commands import Commands, DataCommands

PACKAGE = Path(__file__).parent.parent / "cnntrain"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room imports from the rooms of lower floors only; those of one floor do not know each other. Where a part of a room
# stands on a floor of its own, its file is named beside it.
FLOORS = [
    {"runtime.names"},
    {"errors", "runs.titles", "runtime.plain_text", "tasks.evidence", "tasks.intervals", "tasks.watched"},
    {"config.section", "config.shorthand"},
    {"runtime", "insight.doctor", "reports.pages"},
    {"data"},
    {"models", "tasks.losses"},
    {"training.averaging", "training.early_stopping", "training.freezing", "training.optimizers", "training.resizing"},
    {"training.schedules"},
    {"training.recipe"},
    {"config"},
    {"runs.artifacts"},
    {"models.pretrained"},
    {"tasks"},
    {"training"},
    {"runs"},
    {"trained"},
    {"insight"},
    {"reports"},
    {"runs.run"},
    {"ten_steps"},
    {"serve"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {place: floor for floor, places in enumerate(FLOORS) for place in places}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def place_of(module: str) -> str | None:
    """The entry of FLOORS that a module belongs to: `cnntrain.config.section` -> `config.section`, its room else."""
    names = module.split(".")[1:]
    return next((place for place in (".".join(names[:2]), *names[:1]) if place in FLOOR_OF), None)


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {module for module in modules if module.startswith("cnntrain.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_from_lower_floors_only(path: Path) -> None:
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    place = place_of(module)
    if place is None:  # the package itself
        return
    for other in {other for module in imported_modules(path) if (other := place_of(module))} - {place}:
        assert FLOOR_OF[other] < FLOOR_OF[place], f"{module} imports {other}"


def test_the_house_has_few_rooms() -> None:
    names = {path.name for path in PACKAGE.iterdir()}
    assert len({name for name in names if not name.startswith("__") and name != "py.typed"}) <= 14


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short_enough_to_hold_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 320


@pytest.mark.parametrize("path", [path for path in FILES if "__all__" in path.read_text()], ids=lambda path: path.stem)
def test_what_a_file_says_it_offers_is_all_that_it_defines_for_others(path: Path) -> None:
    tree, offered = tree_of(path), set[str]()
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            offered = set(ast.literal_eval(node.value))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {name for name in defined if not name.startswith("_")} <= offered


def test_each_of_the_ten_steps_has_its_number_and_a_reason() -> None:
    files = [PACKAGE / name for name in ("training/setup.py", "training/loop.py", "trained/finishing.py")]
    steps = [re.findall(r"^ +# (\d+) [a-z ]+: .{20}", path.read_text(), re.MULTILINE) for path in files]
    assert [[int(number) for number in numbers] for numbers in steps] == [[1, 2], [7, 9, 8, 3, 4, 5, 6], [10]]


def test_public_methods_have_a_docstring_or_override_one_that_has() -> None:
    classes = [node for path in FILES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)]
    bases = {(node.name, ast.unparse(base).split("[")[0]) for node in classes for base in node.bases}
    methods = [(node.name, method) for node in classes for method in node.body if isinstance(method, ast.FunctionDef)]
    documented = {(name, method.name) for name, method in methods if ast.get_docstring(method)}

    def has_docstring(name: str, method: str) -> bool:
        return (name, method) in documented or any(has_docstring(base, method) for own, base in bases if own == name)

    bare = {(name, method.name) for name, method in methods if not has_docstring(name, method.name)}
    assert not {(name, method) for name, method in bare if not name.startswith("_") and not method.startswith("_")}


def test_models_know_of_the_configuration_only_what_options_are_made_of() -> None:
    for path in (PACKAGE / "models").rglob("*.py"):
        known = {module for module in imported_modules(path) if module.startswith("cnntrain.config.")}
        assert all(module.split(".")[2] in ("section", "shorthand") for module in known), path


def test_commands_print_through_functions_that_make_names_harmless() -> None:
    for path in FILES:
        if path.is_relative_to(PACKAGE / "cli") and path.name != "output.py":
            calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
            assert not [call.lineno for call in calls if ast.unparse(call.func) in ("print", "typer.echo")], path


@pytest.mark.parametrize("group", [Commands, DataCommands])
def test_each_command_is_a_function_in_a_file_that_is_named_after_it(group: type[Commands]) -> None:
    folder = PACKAGE.parent / group.package.replace(".", "/")
    words = {name.replace("-", "_") for name in group.names} - {"data"}  # a folder
    named_like_their_file = {
        path.stem
        for path in folder.glob("*.py")
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef) and node.name == path.stem
    }
    assert named_like_their_file == words


def test_nothing_from_outside_is_executed() -> None:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                call = ast.unparse(node)
                name = call.split("(")[0]
                assert name not in {"eval", "exec", "yaml.load", "pickle.load", "pickle.loads"}, f"{path}: {call}"
                if name == "torch.load":
                    assert "weights_only=True" in call
                if name == "np.load":
                    assert "allow_pickle" not in call


# Words that say nothing of what they stand for.
EMPTY_WORDS = {"found", "one", "said", "held", "understood", "fitting"}


def bound_names(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_say_what_they_stand_for(path: Path) -> None:
    assert not bound_names(path) & EMPTY_WORDS


@pytest.mark.parametrize(
    "name", ["arrays", "batches", "cache", "carve", "copies", "copy_notices", "mending", "pipeline", "split", "stores"]
)
def test_stores_splits_and_batches_do_not_know_what_examples_are(name: str) -> None:
    modules = imported_modules(PACKAGE / "data" / f"{name}.py")
    assert not [module for module in modules if module.startswith(("cnntrain.data.images", "cnntrain.config"))]


# Who turns outputs into probabilities or decisions without asking the task, and why.
DECIDES_ITSELF = {
    "insight/labels.py": "confident learning is about the probabilities of classes",
    "reports/findings.py": "looks at single label's probabilities; the task says which sections of the page there are",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_outputs_mean_is_asked_of_the_task(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    if name.startswith("tasks/") or name in DECIDES_ITSELF:
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            call = ast.unparse(node)
            called = ast.unparse(node.func).rpartition(".")[2]
            assert called not in ("softmax", "log_softmax"), f"{name}: {call}"
            assert not (called == "argmax" and len(node.args) + len(node.keywords)), f"{name}: {call}"


def test_who_decides_itself_still_does() -> None:
    for name in DECIDES_ITSELF:
        text = (PACKAGE / name).read_text()
        assert ".max(1)" in text or ".argmax(1)" in text, name


# Rooms in which the word stands for what a file or a page of single label says; see `Task.headline` and `Task.score`.
SAYS_ACCURACY = {
    "insight/calibration.py": "beside confidence",
    "insight/robustness.py": "of attacked images",
    "runs/artifacts/header.py": "a key of checkpoints",
    "runs/artifacts/records.py": "a key of results.json and metrics.jsonl",
    "runs/artifacts/training.py": "a key of training checkpoints",
    "cli/lr_find.py": "trials are judged by it",
    "config/schema.py": "a key of configurations",
    "insight/doctor/data.py": "its verdict is about classes",
    "insight/doctor/outcome.py": "evidence that it shows",
    "runs/run.py": "its repr loads no network to ask the task",
    "runs/run_list.py": "a column of the list of runs",
    "runs/reproduce.py": "a key of configurations",
    "serve/answers.py": "a key of GET /info",
    "training/early_stopping.py": "the default of a configuration",
    "training/sums.py": "a key of training checkpoints",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_headline_is_asked_of_the_task(path: Path) -> None:
    """The rooms `reports` and `training/lr_find` are about accuracy throughout."""
    name = path.relative_to(PACKAGE).as_posix()
    if name.startswith(("tasks/", "reports/", "training/lr_find/")) or name in SAYS_ACCURACY:
        return
    for node in ast.walk(tree_of(path)):
        assert not (isinstance(node, ast.Constant) and node.value == "accuracy"), f"{name}:{node.lineno}"
        assert not (isinstance(node, ast.Attribute) and node.attr == "accuracy"), f"{name}:{node.lineno}"


def test_every_exception_of_accuracy_is_one() -> None:
    for name in SAYS_ACCURACY:
        assert "accuracy" in (PACKAGE / name).read_text(), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_state_itself_writes_into_its_fields(path: Path) -> None:
    if path == PACKAGE / "training" / "state.py":
        return
    written = {
        ast.unparse(node.value)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    assert not {name for name in written if name.rpartition(".")[2] in ("state", "_state")}
