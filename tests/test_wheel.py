"""What somebody gets who installs the wheel and has no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

import dynbackbones

ROOT = Path(__file__).parents[1]
SOURCES = ("dynbackbones", "configs", "docs", *("LICENSE", "README.md", "setup.py"))
BUILD = "import sys\nfrom setuptools import build_meta\nbuild_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network from a copy, beside which a build leaves its files."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    shutil.copy(ROOT / "pyproject.toml", source)
    subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=source, check=True)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs Python in a folder where the wheel is all there is of this package."""
    target = tmp_path_factory.mktemp("site")
    install = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([sys.executable, *install, str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}

    def run(*words, folder):
        result = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    run.target = target
    return run


def test_what_the_wheel_holds(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = BytesParser().parsebytes(archive.read(f"{info}/METADATA"))
    for folder in ("configs", "docs"):
        files = [p for p in (ROOT / folder).rglob("*") if p.suffix in (".yaml", ".py", ".md")]
        assert files
        assert {f"dynbackbones/{p.relative_to(ROOT)}" for p in files} <= names
    package = {str(p.relative_to(ROOT)) for p in (ROOT / "dynbackbones").rglob("*.py")}
    assert package <= names
    assert {"dynbackbones/py.typed", "dynbackbones/docs/demo_regions.png"} <= names
    assert f"{info}/licenses/LICENSE" in names
    assert not [name for name in names if name.startswith(("tests/", "tools/", "configs/"))]
    assert metadata["Version"] == dynbackbones.__version__
    assert metadata.get_payload(decode=True) == (ROOT / "README.md").read_bytes()


def test_the_version_stands_in_one_place():
    for name in ("setup.py", "pyproject.toml"):
        assert dynbackbones.__version__ not in (ROOT / name).read_text(encoding="utf-8")


def test_commands_of_the_installed_package(installed, tmp_path):
    listed = installed("-m", "dynbackbones", "--help", folder=tmp_path)
    assert "train-net" in listed
    assert f"Documents are in {installed.target / 'dynbackbones' / 'docs'}." in listed
    assert "usage: dynbackbones" in installed(
        installed.target / "bin" / "dynbackbones", "--help", folder=tmp_path
    )
    configs = installed("-m", "dynbackbones", "configs", folder=tmp_path)
    assert "configs/demo/sar_retinanet.yaml\n" in configs
    assert str(installed.target) in configs
    installed("-m", "dynbackbones", "configs", "--copy", "mine", folder=tmp_path)
    copied = {p.relative_to(tmp_path / "mine") for p in (tmp_path / "mine").rglob("*.*")}
    ours = (ROOT / "configs").rglob("*.*")
    assert copied == {p.relative_to(ROOT / "configs") for p in ours if p.suffix != ".pyc"}


def test_a_demo_config_loads_from_an_empty_folder(installed, tmp_path):
    code = (
        "from dynbackbones.integrations.torchvision.config import load_config\n"
        "print(load_config('configs/demo/sar_retinanet.yaml').OUTPUT_DIR)"
    )
    said, output = installed("-c", code, folder=tmp_path).splitlines()
    file = installed.target / "dynbackbones" / "configs" / "demo" / "sar_retinanet.yaml"
    assert (said, output) == (
        f"config configs/demo/sar_retinanet.yaml: {file}, as there is none here",
        "output/demo/sar_retinanet",
    )


def test_a_config_of_mmengine_loads_from_an_empty_folder(installed, tmp_path):
    pytest.importorskip("mmseg")
    code = (
        "from dynbackbones.integrations.openmmlab.checks import load_config\n"
        "print(load_config('configs/demo/sar_semantic_fpn.py').model.backbone.type)"
    )
    assert installed("-c", code, folder=tmp_path).splitlines()[-1] == "SARResNet"
