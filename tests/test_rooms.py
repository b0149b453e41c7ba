"""Imports between the package's rooms point one way."""

import ast
from pathlib import Path

import dynbackbones

ROOT = Path(dynbackbones.__file__).parent

# A room may import those before it, and itself.
ORDER = [
    "errors",
    "layers",
    "kernels",
    "policy",
    "backbones",
    "classifiers",
    "checkpoints",
    "adaptation",
    "pretraining",
    "inference",
    "training",
    "demo",
    "data",
    "analysis",
    "zoom",
    "video",
    "export",
    "integrations",
    "experiments",
    "cli",
]
# Within integrations: what both YAML engines share, what mmengine serves, then the frameworks.
FRAMEWORKS = {"detectron2", "torchvision", "openmmlab"}


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name.split(".")[0] == "dynbackbones"}


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def test_every_room_has_its_place():
    top = {"__init__", "__main__", "_moved"}
    assert {room(p.relative_to(ROOT).parts) for p in files()} - top <= set(ORDER)


def test_no_import_points_up():
    upward = []
    for path in files():
        parts = path.relative_to(ROOT).parts
        own = room(parts)
        if own not in ORDER:
            continue
        for name in imported(path):
            other = name.split(".")[1] if "." in name else None
            if other in ORDER and ORDER.index(other) > ORDER.index(own):
                upward.append(f"{'/'.join(parts)} imports {name}")
    assert upward == []


def test_a_framework_does_not_import_another():
    crossing = []
    for path in (ROOT / "integrations").rglob("*.py"):
        parts = path.relative_to(ROOT / "integrations").parts
        for name in imported(path):
            below = name.removeprefix("dynbackbones.integrations.").split(".")[0]
            if not name.startswith("dynbackbones.integrations.") or below not in FRAMEWORKS:
                continue
            # What stands beside the frameworks' folders knows none, but for what chooses one.
            if parts[0] not in (below, "engine.py"):
                crossing.append(f"{'/'.join(parts)} imports {name}")
    assert crossing == []


def test_methods_do_not_know_each_other():
    crossing = []
    for own, other in (("sar", "blockdrop"), ("blockdrop", "sar")):
        for path in (ROOT / "backbones" / own).rglob("*.py"):
            crossing += [n for n in imported(path) if f".backbones.{other}" in n]
    assert crossing == []
