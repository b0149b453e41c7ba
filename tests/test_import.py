import subprocess
import sys

FRAMEWORKS = ("torchvision", "detectron2", "mmengine", "mmcv", "mmseg", "mmpretrain", "sklearn")


def test_import_loads_no_framework():
    code = (
        "import sys, dynbackbones; "
        "dynbackbones.build_backbone('sar_resnet18'); dynbackbones.build_backbone('resnet18'); "
        f"print([name for name in {FRAMEWORKS} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
