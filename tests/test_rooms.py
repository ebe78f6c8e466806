"""The rooms of the package import each other in one direction only; read from the code itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "signal_diffusion"
FLOORS = (
    ("cli",),
    ("pipeline",),
    ("sampling",),
    ("training",),
    ("experiment",),
    ("checkpoints",),  # which tells a LoRA's weights from a whole model's
    ("figures", "evaluation"),
    ("data", "models", "diffusion"),
    ("config",),
    ("paths", "hub", "errors", "randomness"),
)
"""From top to bottom: a room imports rooms of its own floor or of lower ones, without a circle."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
KNOWN_NOTHING_OF = {
    "diffusion": ("models", "data", "experiment"),
    "models": ("diffusion", "training"),
    "evaluation": ("models", "diffusion", "training", "experiment"),
    "config": ("data", "models", "diffusion"),
}


def room_of(module: str) -> str:
    return module.split(".")[1]


def arrows() -> Iterator[tuple[str, str, str]]:
    """(importing room, imported room, file:line) of every import of ours, those inside functions too."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if module == "signal_diffusion.__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "signal_diffusion":
                names = [f"signal_diffusion.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name.startswith("signal_diffusion.") and room_of(name) != room_of(module):
                    place = f"{path.relative_to(PACKAGE.parent)}:{node.lineno}"
                    yield room_of(module), room_of(name), place


def test_every_room_has_a_floor() -> None:
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__"} == set(FLOOR)


def test_no_import_goes_up() -> None:
    wrong = [f"{place}: {a} imports {b}, which is above it" for a, b, place in arrows() if FLOOR[a] > FLOOR[b]]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", KNOWN_NOTHING_OF)
def test_a_room_that_knows_nothing_of_another_does_not_import_it(room: str) -> None:
    wrong = [place for a, b, place in arrows() if a == room and b in KNOWN_NOTHING_OF[room]]
    assert not wrong, "\n".join(wrong)


def test_rooms_import_each_other_in_no_circle() -> None:
    graph: dict[str, set[str]] = {room: set() for room in FLOOR}
    for a, b, _ in arrows():
        graph[a].add(b)
    while free := [room for room, below in graph.items() if not below & graph.keys()]:
        for room in free:
            del graph[room]
    assert not graph, f"in a circle, or above one: {graph}"


def test_the_root_has_six_modules() -> None:
    assert len(list(PACKAGE.glob("*.py"))) - 1 == 6
