"""The packages of signal_diffusion import each other in one direction only. The imports are read from the code."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "signal_diffusion"
LAYERS = (
    ("cli",),
    ("benchmarks",),
    ("integrations",),
    ("pipeline",),
    ("sampling",),
    ("training",),
    ("experiment",),
    ("checkpoints",),  # imports models, to tell the weights of a LoRA from those of a whole model
    ("figures", "evaluation"),
    ("data", "models", "diffusion"),
    ("config", "executing"),
    ("paths", "hub", "disks", "errors", "escaping", "known", "randomness", "untrusted"),
)
"""Top layer first: a part imports parts of its own layer or of lower ones, without a cycle."""
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
FORBIDDEN = {
    "diffusion": ("models", "data", "experiment"),
    "models": ("diffusion", "training"),
    "evaluation": ("models", "diffusion", "training", "experiment"),
    "config": ("data", "models", "diffusion"),
}


def part_of(module: str) -> str:
    """The package, or module of the root, that a module belongs to."""
    return module.split(".")[1]


@cache
def imports() -> list[tuple[str, str, str]]:
    """(importing part, imported part, file:line) of every import within the package, also inside functions."""
    found = []
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
                if name.startswith("signal_diffusion.") and part_of(name) != part_of(module):
                    place = f"{path.relative_to(PACKAGE.parent)}:{node.lineno}"
                    found.append((part_of(module), part_of(name), place))
    return found


def test_every_part_has_a_layer() -> None:
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__"} == set(LAYER)


def test_no_import_is_of_a_higher_layer() -> None:
    wrong = [f"{place}: {a} imports {b}, a higher layer" for a, b, place in imports() if LAYER[a] > LAYER[b]]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("part", FORBIDDEN)
def test_no_import_is_forbidden(part: str) -> None:
    wrong = [place for a, b, place in imports() if a == part and b in FORBIDDEN[part]]
    assert not wrong, "\n".join(wrong)


def test_imports_have_no_cycle() -> None:
    graph: dict[str, set[str]] = {part: set() for part in LAYER}
    for a, b, _ in imports():
        graph[a].add(b)
    while free := [part for part, imported in graph.items() if not imported & graph.keys()]:
        for part in free:
            del graph[part]
    assert not graph, f"in a cycle, or importing one: {graph}"


def test_the_root_has_nine_modules() -> None:
    assert len(list(PACKAGE.glob("*.py"))) - 1 == 9
