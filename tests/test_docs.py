"""The pages name only what is there: files, modules and what stands in them, commands."""

import ast
import re
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch

import dynbackbones
from dynbackbones.analysis.pictures import region_brightness
from dynbackbones.cli.main import COMMANDS
from dynbackbones.integrations import options_page
from dynbackbones.integrations.torchvision import schema
from tests.test_rooms import ORDER

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "configs/README.md",
        *(ROOT / "docs").rglob("*.md"),
    )
)
PATH = re.compile(r"(?<![\w/.-])(?:configs|docs|dynbackbones|tests|tools)/[\w.*{},$/-]*[\w*}/]")
DOTTED = re.compile(r"(?<![\w/.-])dynbackbones(?:\.[A-Za-z_]\w*)+")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(?:\w+=\S+ )*dynbackbones ([a-z][\w-]*)", re.MULTILINE)
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def alternatives(path: str) -> list[str]:
    """``a{b,c}`` as ``ab`` and ``ac``; ``NAME`` and a shell's variables may be anything."""
    path = re.sub(r"\$\{\w+\}|\$\w+|\bNAME\b", "*", path)
    parts = re.split(r"\{([^}]*)\}", path)
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*choices)]


@cache
def definitions(path: Path) -> set[str]:
    """``name`` and ``Class.member`` of all that a Python file defines or imports."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        found |= names_of(node)
        if isinstance(node, ast.ClassDef):
            members = {name for part in node.body for name in names_of(part)}
            for part in ast.walk(node):  # what methods set
                if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
                    members.add(part.attr)
            found |= {f"{node.name}.{member}" for member in members}
    return found


def names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def exists(dotted: str) -> bool:
    """Whether the package has a module of this name, or one that defines what follows it."""
    place, parts = ROOT, dotted.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    module = place / "__init__.py"
    if parts and (place / f"{parts[0]}.py").is_file():
        module = place / f"{parts.pop(0)}.py"
    return module.is_file() and (not parts or ".".join(parts) in definitions(module))


def anchors(path: Path) -> set[str]:
    """What links can point at in a page, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    kept = (re.sub(r"[^\w -]", "", heading).strip().lower() for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    named = {path for found in PATH.findall(text_of(page)) for path in alternatives(found)}
    assert [path for path in sorted(named) if not any(ROOT.glob(path))] == []


@pytest.mark.parametrize("page", PAGES)
def test_names_exist(page):
    assert [name for name in sorted(set(DOTTED.findall(text_of(page)))) if not exists(name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    broken = []
    for label, target in LINK.findall(FENCE.sub("", text_of(page))):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        place = (ROOT / page).parent / path if path else ROOT / page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(target)
        elif place.suffix == ".py" and label.startswith("`"):
            name = label.strip("`").removesuffix("()")
            if name not in definitions(place.resolve()):
                broken.append(f"{name} in {target}")
    assert broken == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page):
    blocks = "\n".join(FENCE.findall(text_of(page)))
    assert set(COMMAND.findall(blocks)) <= set(COMMANDS)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("dynbackbones.build_backbone", True),
        ("dynbackbones.backbones.sar.stage.SARStage.forward", True),
        ("dynbackbones.backbones.sar_stage", False),
        ("dynbackbones.backbones.sar.stage.SARStage.backward", False),
    ],
)
def test_a_name_that_is_not_there_is_noticed(name, there):
    assert exists(name) is there


def run_python(page: str) -> dict:
    """What the Python blocks of a page define, run one after the other."""
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        exec(compile(block, page, "exec"), names)
    return names


def test_the_head_of_the_recipe_sees_what_pictures_show():
    head = run_python("docs/architecture.md")
    net = dynbackbones.build_backbone("sar_resnet18", groups=4).eval()
    with net.select("random", rate=0.4, seed=1):
        net(torch.rand(2, 3, 73, 90))
    for stage, regions in net.decisions.regions().items():
        maps = head["refined_share"](net.decisions, stage, (73, 90))
        for mask, share in zip(regions.masks, maps, strict=True):
            shown = region_brightness(mask, regions.row_edges, regions.col_edges, (73, 90))
            assert torch.equal(share[0], shown)


def test_the_page_lists_the_rooms_in_their_order():
    rows = re.findall(r"^\| `(\w+)` \|", text_of("docs/architecture.md"), re.MULTILINE)
    assert rows[: len(ORDER)] == ORDER


def test_the_reference_of_options_is_up_to_date():
    assert text_of("docs/options.md") == options_page.page(), "run make docs"


ROW = re.compile(r"^\| `?(\w*)`? \| `?([^|]*?)`? \| `(MODEL[\w.]+)` \| \S", re.MULTILINE)


def test_the_reference_has_every_key_of_a_node_with_its_default():
    defaults = {key: default for _, default, key in ROW.findall(text_of("docs/options.md"))}
    model = schema.get_cfg().MODEL
    for node in ("SAR", "BLOCKDROP"):
        for name, value in model[node].items():
            shown = defaults[f"MODEL.{node}.{name}"]
            in_yaml = tuple(value) if isinstance(value, list) else value
            nothing = shown == "None" and not value
            assert nothing or shown in ("", repr(in_yaml).replace("'", '"'))
