import subprocess
import sys

from tests.test_rooms import ORDER

FRAMEWORKS = ("torchvision", "detectron2", "mmengine", "mmcv", "mmseg", "mmpretrain", "sklearn")
# Rooms that do without every optional package; those behind need torchvision, which needs pillow.
CORE = ORDER[: ORDER.index("zoom")]


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_loads_no_framework():
    code = (
        "import sys, dynbackbones; "
        "dynbackbones.build_backbone('sar_resnet18'); dynbackbones.build_backbone('resnet18'); "
        f"print([name for name in {FRAMEWORKS} if name in sys.modules])"
    )
    assert run(code) == "[]"


def test_import_leaves_the_compiler_alone():
    """It takes as long to import as all the rest of torch."""
    code = (
        "import sys, torch; before = 'torch._dynamo' in sys.modules; import dynbackbones; "
        "dynbackbones.build_backbone('blockdrop_resnet18'); "
        "print('torch._dynamo' in sys.modules and not before)"
    )
    assert run(code) == "False"


def test_every_module_of_the_core_imports():
    """Also where an optional package is missing (`make versions`)."""
    code = (
        "import importlib.util, pkgutil\n"
        "programs = ('launch', 'programs', 'product', 'blending')\n"
        "programs = () if importlib.util.find_spec('triton') else programs\n"
        f"names = [f'dynbackbones.{{name}}' for name in {CORE}]\n"
        "for name in names:\n"
        "    path = getattr(importlib.import_module(name), '__path__', None)\n"
        "    found = [m.name for m in pkgutil.iter_modules(path)] if path else []\n"
        "    names += [f'{name}.{part}' for part in found if part not in programs]\n"
        "print(len(names))"
    )
    assert int(run(code)) > 50
