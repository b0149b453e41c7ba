"""Runs the tests with other versions and without optional packages, and writes a table of them.

    python -m tests.versions --folder output/versions                # all of it: hours
    python -m tests.versions --folder output/versions --only torch-2.6 --parts layers policy

Each environment is made below the folder; those with other versions by pip, those without a package
of links to the packages of the interpreter that runs this. What passed stays there and is not run
again (``--anew``: it is); `docs/versions.md` is written anew after each part.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests import environments

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "versions.md"
MARKERS = "not slow and not fuzz and not cuda"
OLDEST = "3.10"
ON_TOP = "top"
CORE = ("test_import.py", "test_readme.py", "checkpoints", "data", "layers", "policy")
NAMED = ("torch", "torchvision", "numpy", "detectron2")
PAGE_HEAD = """\
# Versions

What the tests were run with, and without: `make versions` makes the environments, runs what has not
passed and writes this page. All on Linux, on a CPU, with `-m "{markers}"`. Parts are folders of
`tests/`, and `{on_top}` the files beside them. Rows without a package have what does without it and
the command that needs it, which ends in one line that names package and extra.

| environment | {columns} | date | parts | passed | skipped | failed |
|---|{rules}---|---|---|---|---|
"""
PAGE_END = """
All tests with the newest torch, and with detectron2 where there is one, are what continuous
integration runs (`.ci/run`).

"""


@dataclass(frozen=True)
class Environment:
    """Where tests run.

    Attributes:
        title: as the table calls it.
        requirements: what pip installs into it, of PyPI; none for links to what is here.
        missing: packages it lacks, as they are imported.
        parts: of the tests; none for all.
    """

    title: str
    requirements: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


def _without(title: str, *missing: str) -> Environment:
    return Environment(f"without {title}", missing=missing, parts=(*CORE, "missing packages"))


ENVIRONMENTS = {
    # Before torch 2.6 the package is not to be installed.
    "torch-2.6": Environment(
        "the oldest torch",
        # Before 70.1 setuptools builds no wheels by itself.
        ("torch==2.6.0", "torchvision==0.21.0", "setuptools>=70.1", "--editable", f"{ROOT}[dev]"),
    ),
    "here": Environment("the newest torch"),
    "openmmlab": _without("OpenMMLab's packages", "mmengine", "mmcv", "mmseg", "mmpretrain"),
    "pycocotools": _without("pycocotools", "pycocotools"),
    "safetensors": _without("safetensors", "safetensors"),
    "sklearn": _without("scikit-learn", "sklearn"),
    "matplotlib": _without("matplotlib", "matplotlib"),
    "PIL": _without("pillow", "PIL"),
    "tensorboard": _without("tensorboard", "tensorboard"),
    "cv2": _without("OpenCV", "cv2"),
    "onnx": _without("ONNX", "onnx"),
    "onnxruntime": _without("ONNX Runtime", "onnxruntime"),
    "triton": _without("Triton", "triton"),
}


class Counts(NamedTuple):
    """What became of tests."""

    passed: int = 0
    skipped: int = 0
    failed: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(self, other, strict=True)))


def parts_of_all() -> list[str]:
    """Folders with tests, those of frameworks each for itself, and the files on top."""
    files = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")]
    folders = {file.parts[:-1][: 2 if file.parts[0] == "integrations" else 1] for file in files}
    return [ON_TOP, *sorted("/".join(folder) for folder in folders if folder)]


def paths_of(part: str, name: str) -> list[str]:
    """What pytest is to run for a part of the tests in an environment."""
    if part == ON_TOP:
        return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_*.py"))
    if part == "missing packages":
        return ["tests/cli/test_missing_packages.py", "-k", f"[{name}]"]
    if part == "integrations":
        return sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests/integrations").glob("*.py"))
    return [f"tests/{part}"]


def make(environment: Environment, folder: Path) -> Path:
    """Makes an environment if it is not there.

    Returns:
        Its interpreter.
    """
    python = folder / "bin" / "python"
    if not environment.requirements and not environment.missing:
        return Path(sys.executable)
    if (folder / "made").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    if environment.missing:
        environments.without(environment.missing, folder)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [python, "-m", "pip", "install", "--quiet", *environment.requirements]
        subprocess.run(install, check=True)
    (folder / "made").touch()
    return python


def run(python: Path, arguments: list[str], report: Path) -> None:
    """Runs tests with pytest, which writes what became of them."""
    report.parent.mkdir(parents=True, exist_ok=True)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    base = report.with_suffix(".tmp")
    subprocess.run(
        [*command, f"--basetemp={base}", "-m", MARKERS, *arguments], cwd=ROOT, env=variables
    )
    shutil.rmtree(base, ignore_errors=True)


def counted(report: Path) -> Counts:
    """What a report of pytest counts; a run that ended early counts as one that failed."""
    if not report.exists():
        return Counts(failed=1)
    (suite,) = ElementTree.parse(report).getroot()
    total, *other = (int(suite.get(key, 0)) for key in ("tests", "skipped", "failures", "errors"))
    return Counts(total - sum(other), other[0], other[1] + other[2])


def failures(folder: Path) -> Iterator[str]:
    """A line for each file with tests that failed, and how the first of them did."""
    for name, environment in ENVIRONMENTS.items():
        found: dict[str, list[str]] = {}
        for report in sorted((folder / "reports" / name).glob("*.xml")):
            for case in ElementTree.parse(report).getroot().iter("testcase"):
                for failure in [*case.iterfind("failure"), *case.iterfind("error")]:
                    first = failure.get("message", "").splitlines() or [""]
                    found.setdefault(case.get("classname", ""), []).append(first[0])
        for file, messages in found.items():
            yield f"- {environment.title}: {len(messages)} of `{file}` ({messages[0]})\n"


def versions(python: Path) -> dict[str, str]:
    """Versions of an interpreter and of what it has of the packages `NAMED`."""
    code = (
        "import json, platform\n"
        "from importlib.metadata import PackageNotFoundError, version\n"
        "found = {'python': platform.python_version()}\n"
        f"for name in {NAMED}:\n"
        "    try: found[name] = version(name)\n"
        "    except PackageNotFoundError: found[name] = '-'\n"
        "print(json.dumps(found))"
    )
    return json.loads(subprocess.check_output([python, "-c", code], text=True))


def check_oldest(folder: Path) -> None:
    """Has vermin look for syntax and standard library newer than the oldest Python supported."""
    python = make(Environment("vermin", ("vermin",)), folder / "vermin")
    command = [python.with_name("vermin"), f"--target={OLDEST}-", "--no-tips", "--violations"]
    command += ["--exclude", "long"]  # of tensors, not of Python 2
    found = subprocess.run(
        [*command, "dynbackbones", "tools", "setup.py"], cwd=ROOT, capture_output=True, text=True
    )
    files = len(list((ROOT / "dynbackbones").rglob("*.py")))
    output = found.stdout + found.stderr
    said = "nothing newer" if found.returncode == 0 else f"\n\n```\n{output}```\n\n"
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    (folder / "reports" / "oldest.md").write_text(
        f"Python {OLDEST}, checked statically: in the {files} files of the package vermin finds "
        f"{said}, and ruff no newer syntax (`make lint`).\n"
    )


def rows(folder: Path) -> Iterator[str]:
    """The table's lines about what is below a folder."""
    for name, environment in ENVIRONMENTS.items():
        reports = sorted((folder / "reports" / name).glob("*.xml"))
        described = folder / "reports" / name / "versions.json"
        if not reports or not described.exists():
            continue
        total = Counts()
        for report in reports:
            total = total.plus(counted(report))
        found = json.loads(described.read_text())
        day = max(report.stat().st_mtime for report in reports)
        every = environment.parts or parts_of_all()
        done = {report.stem.replace("+", "/") for report in reports}
        parts = "all" if done >= set(every) else ", ".join(p for p in every if p in done)
        cells = environment.title, *found.values(), datetime.date.fromtimestamp(day), parts, *total
        yield f"| {' | '.join(map(str, cells))} |\n"


def write_page(folder: Path) -> None:
    """Writes the page of all that is below a folder."""
    oldest = folder / "reports" / "oldest.md"
    end = PAGE_END + oldest.read_text() if oldest.exists() else PAGE_END
    columns = ("Python", *NAMED)
    head = PAGE_HEAD.format(
        markers=MARKERS, on_top=ON_TOP, columns=" | ".join(columns), rules="---|" * len(columns)
    )
    failed = "".join(failures(folder))
    failed = f"\nWhat failed:\n\n{failed}" if failed else ""
    PAGE.write_text(head + "".join(rows(folder)) + failed + end, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for environments and reports")
    parser.add_argument("--only", nargs="+", choices=[*ENVIRONMENTS, "oldest"], metavar="NAME")
    parser.add_argument("--parts", nargs="+", help="folders of tests/; by default all that count")
    parser.add_argument("--anew", action="store_true", help="run again what passed, too")
    args = parser.parse_args()
    folder = args.folder.resolve()
    for name in args.only or [*ENVIRONMENTS, "oldest"]:
        if name == "oldest":
            check_oldest(folder)
            continue
        environment, reports = ENVIRONMENTS[name], folder / "reports" / name
        python = make(environment, folder / name)
        reports.mkdir(parents=True, exist_ok=True)
        (reports / "versions.json").write_text(json.dumps(versions(python)))
        for part in args.parts or environment.parts or parts_of_all():
            report = reports / f"{part.replace('/', '+')}.xml"
            if args.anew or not report.exists() or counted(report).failed:
                print(f"{environment.title}: {part}", flush=True)
                report.unlink(missing_ok=True)
                run(python, paths_of(part, name), report)
                print(f"{environment.title}: {part}: {counted(report)}", flush=True)
            write_page(folder)
    write_page(folder)


if __name__ == "__main__":
    main()
