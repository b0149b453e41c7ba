"""The check itself, which needs no GPU to refuse, to go on after a failure and to report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import check, table
from tests.messages import names, naming

ROOT = Path(__file__).parents[2]
# Writes what a step reports; the words behind it say where.
REPORTS = (
    "import json, sys; place = sys.argv[sys.argv.index('--json') + 1]; "
    "json.dump({'figures': {'speed': 3}, 'failures': %s}, open(place, 'w')); sys.exit(%d)"
)


@pytest.mark.parametrize("command", [["make", "check-gpu", f"PYTHON={sys.executable}"], None])
def test_without_cuda_it_refuses_in_one_line(command, tmp_path):
    command = command or [sys.executable, "-m", "tests.gpu.check", "--folder", str(tmp_path / "no")]
    done = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ, CUDA_VISIBLE_DEVICES=""), capture_output=True,
        text=True,
    )  # fmt: skip
    # Make adds a line of its own, "make:", or "make[1]:" where the tests run under `make test`.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert names(lines[0], "check-gpu", "CUDA device")
    assert not (tmp_path / "no").exists()


@pytest.fixture
def steps(monkeypatch):
    def python(name, code, **options):
        return check.Command(name, ("-c", code), **options)

    monkeypatch.setattr(
        check,
        "STEPS",
        (
            python("good", REPORTS % ("[]", 0)),
            python("bad", REPORTS % ("['a wrong value']", 1)),
            python("broken", "print('the reason'); raise SystemExit(3)"),
            python("slow", "import time; print('begun', flush=True); time.sleep(60)", limit=6),
            python("needy", "pass", needs=("no_such_module",)),
            python("last", REPORTS % ("[]", 0), alone=True),
        ),
    )


def test_a_step_that_fails_or_hangs_stops_no_other(steps, tmp_path, capsys):
    code = check.main(["--device", "cpu", "--folder", str(tmp_path), "--limit", "200"])
    assert code == 1
    content = json.loads((tmp_path / "check.json").read_text())
    entries = {entry["name"]: entry for entry in content["steps"]}
    results = {name: entry["result"] for name, entry in entries.items()}
    assert results == {
        "good": "ok", "bad": "failed", "broken": "failed", "slow": "failed", "needy": "left out",
        "last": "ok",
    }  # fmt: skip
    assert entries["good"]["figures"] == {"speed": 3}
    assert entries["bad"]["failures"] == ["a wrong value"]
    assert "the reason" in entries["broken"]["log"] and "3" in entries["broken"]["why"]
    assert "begun" in entries["slow"]["log"] and entries["slow"]["seconds"] < 30
    assert "no_such_module" in entries["needy"]["why"]
    assert entries["last"]["benchmark"]["figures"] == {"speed": 3}
    assert content["machine"]["torch"]
    printed = capsys.readouterr().out
    assert "a wrong value" in printed and "the reason" in printed
    assert "| bad | failed |" in (tmp_path / "check.md").read_text()


def test_what_has_no_time_left_is_left_out(steps, tmp_path):
    check.main(["--device", "cpu", "--folder", str(tmp_path), "--limit", "100"])
    content = json.loads((tmp_path / "check.json").read_text())
    results = {entry["name"]: entry["result"] for entry in content["steps"]}
    assert results["good"] == "left out" and results["last"] == "ok"


def test_tests_are_counted(tmp_path):
    report = tmp_path / "tests.xml"
    cases = ["", "<failure/>", "<error/>", "<skipped/>", ""]
    inside = "".join(
        f'<testcase classname="file" name="case_{i}">{case}</testcase>'
        for i, case in enumerate(cases)
    )
    report.write_text(f"<testsuites><testsuite>{inside}</testsuite></testsuites>")
    figures, failures = check._tests(report)
    assert figures == {"passed": 2, "failed": 2, "skipped": 1}
    assert failures == ["file::case_1", "file::case_2"]


def test_results_go_between_the_markers_of_the_page():
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    content = {
        "machine": {"device": "a card"}, "seconds": 12.3,
        "steps": [{"name": "tests", "result": "ok", "seconds": 4.0, "figures": {"passed": 7}}],
    }  # fmt: skip
    written = table.into_page(page, table.markdown(content))
    assert "| tests | ok | 4 | passed 7 |" in written and "a card" in written
    assert table.into_page(written, table.markdown(content)) == written
    begin, end = page.index(table.BEGIN), page.index(table.END)
    assert written.startswith(page[:begin]) and written.endswith(page[end:])
    with pytest.raises(ValueError, match=naming(table.BEGIN)):
        table.into_page("a page", "anything")


@pytest.mark.slow
def test_the_steps_run_in_tiny_form(tmp_path):
    pytest.importorskip("mmpretrain")
    names = ["compiled", "torchvision", "mmpretrain", "nccl", "two", "memory"]
    words = ["--device", "cpu", "--folder", str(tmp_path), "--limit", "600", "--jobs", "1"]
    assert check.main([*words, "--only", *names]) == 0
    content = json.loads((tmp_path / "check.json").read_text())
    entries = {entry["name"]: entry for entry in content["steps"]}
    assert {entry["result"] for entry in entries.values()} == {"ok"}
    assert entries["torchvision"]["figures"]["resume, deterministic"] == "exact"
    assert entries["two"]["figures"]["BlockDrop: largest difference"] < 1e-3
