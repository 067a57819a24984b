"""The house rules of CONTRIBUTING.md that can be checked by reading the code."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cnntrain"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room imports from the rooms of lower floors only; those of one floor do not know each other.
FLOORS = [
    {"names"},
    {"errors", "intervals", "titles"},
    {"config", "runtime", "metrics", "extras", "pages", "doctor"},
    {"artifacts"},
    {"models", "data", "recipe"},
    {"task", "evidence", "summarise", "start", "progress"},
    {"records", "learner", "analysis"},
    {"evaluate", "predict", "reproduce", "nonfinite", "memory", "explain", "export", "inspection"},
    {"checkpointing", "calibrate", "report"},
    {"train"},
    {"check", "bench", "lr_find", "serve"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("cnntrain.")}
    return rooms & set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_from_lower_floors_only(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return
    room = room_of(path)
    for other in imported_rooms(path) - {room}:
        assert FLOOR_OF[other] < FLOOR_OF[room], f"{room} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short_enough_to_hold_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 320


def test_architectures_know_no_config() -> None:
    for path in (PACKAGE / "models").glob("*.py"):
        if path.name != "__init__.py":
            assert "config" not in imported_rooms(path)


def test_commands_print_through_functions_that_make_names_harmless() -> None:
    for path in FILES:
        if path.parent.name == "cli" and path.name != "output.py":
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not [call.lineno for call in calls if ast.unparse(call.func) in ("print", "typer.echo")], path


def test_nothing_from_outside_is_executed() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                call = ast.unparse(node)
                name = call.split("(")[0]
                assert name not in {"eval", "exec", "yaml.load", "pickle.load", "pickle.loads"}, f"{path}: {call}"
                if name == "torch.load":
                    assert "weights_only=True" in call
                if name == "np.load":
                    assert "allow_pickle" not in call
