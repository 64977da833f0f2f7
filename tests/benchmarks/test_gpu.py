"""`benchmarks.gpu`: parts with limits of their own, resumed, on bare machines."""

import json
import os
import re
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_report
from benchmarks.gpu import DONE, FAILED, NOT_RUN, STOPPED, Part


ROOT = Path(gpu.ROOT)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls it with parts that are lines of Python; what became of each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "tables", lambda *_: "## Tables")

    def call(*groups, arguments=("--rehearse",)):
        parts = [
            [Part(name, name, limit, ["-c", code]) for name, code, limit in group]
            for group in groups
        ]
        monkeypatch.setattr(gpu, "groups", lambda _: parts)
        status = gpu.main([*arguments, "--out", str(tmp_path / "out")])
        content = json.loads((tmp_path / "out/rehearsal/gpu.json").read_text())
        return status, {name: tuple(x[:2]) for name, x in content["parts"].items()}

    return call


def test_each_part_ends_as_it_does_and_costs_no_other(run, tmp_path):
    alive = tmp_path / "alive"
    # Its own process ignores being told to end, and has started another.
    lasting = (
        "import signal, subprocess, sys, time; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"subprocess.Popen([sys.executable, '-c', 'import time, pathlib; "
        f'time.sleep(6); pathlib.Path(r"{alive}").touch()\']); time.sleep(60)'
    )
    status, found = run(
        [("good", "print(1)", 30), ("absent", "import no_such_package.part", 30),
         ("bad", "raise ValueError('wrong | here')", 30)],
        [("lasting", lasting, 0.4), ("after", "pass", 30)],
    )  # fmt: skip
    assert found == {
        "good": (DONE, ""),
        "absent": (NOT_RUN, "no no_such_package"),
        "bad": (FAILED, "ValueError: wrong / here"),
        "lasting": (STOPPED, "out of time; call again to go on"),
        "after": (DONE, ""),
    }
    assert status == 1
    page = (tmp_path / "out/rehearsal/README.md").read_text()
    assert page.startswith(f"# GPU: {gpu.REHEARSAL}\n")
    assert "| absent | absent | not run: no no_such_package |" in page
    assert page.endswith("## Tables\n")
    time.sleep(3)
    assert not alive.exists()


def test_a_second_call_goes_on_with_what_is_missing(run, tmp_path):
    log = tmp_path / "log"
    say = "import pathlib; p = pathlib.Path(r'{}'); p.open('a').write('{} '); {}"
    fails = say.format(log, "fails", "raise SystemExit('error: no')")
    first = [
        [("good", say.format(log, "good", ""), 30), ("fails", fails, 30)],
        [("late", say.format(log, "late", ""), 30)],
    ]
    status, found = run(*first, arguments=("--rehearse", "--minutes", "0"))
    # Nothing was tried; then everything; then what failed.
    assert {x[0] for x in found.values()} == {NOT_RUN}
    assert status == 0
    assert not log.exists()
    assert run(*first)[0] == 1
    assert sorted(log.read_text().split()) == ["fails", "good", "late"]
    more = [*first, [("new", say.format(log, "new", ""), 30)]]
    run(*more)
    assert log.read_text().split()[3:] == ["new", "fails"]
    with pytest.raises(SystemExit, match="expected a run with sizes 1"):
        run(*first, arguments=("--rehearse", "--sizes", "1"))


def test_without_a_gpu_it_says_so_and_ends(run, monkeypatch, capsys, tmp_path):
    for found in ({"PyTorch": [], "JAX": "none"}, {"PyTorch and JAX": "no python"}):
        monkeypatch.setattr(gpu, "probe", lambda _, found=found: found)
        assert gpu.main(["--out", str(tmp_path / "out")]) == 2
    assert "No GPU: nothing was run" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_machine_that_has_nothing_but_python_loses_rows_alone(tmp_path):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    command = [tmp_path / "bare/bin/python", "-m", "benchmarks.gpu", "--rehearse"]
    command += ["--out", tmp_path / "out", "--wheels", tmp_path / "none"]
    env = {n: x for n, x in os.environ.items() if not n.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], cwd=tmp_path, env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out/rehearsal/gpu.json").read_text())
    outcomes = content["parts"].values()
    assert len(outcomes) == 8
    assert {(status, why.split()[0]) for status, why, _ in outcomes} == {
        (NOT_RUN, "no")
    }
    page = (tmp_path / "out/rehearsal/README.md").read_text()
    assert "| not run: no rich |" in page
    assert re.search(r"Tables: not run: no (numpy|tyro)\.", page)


def test_wheels_that_were_brought_along_are_unpacked_where_missing(tmp_path):
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    names = {
        "brought-1.0-py3-none-any": True,
        f"compiled-1.0-{tag}-{tag}-manylinux_2_28_x86_64": True,
        "stable-1.0-cp310-abi3-manylinux_2_17_x86_64": True,
        "other-1.0-cp39-cp39-manylinux_2_28_x86_64": False,
        # Is installed.
        "pytest-1.0-py3-none-any": False,
    }
    for stem in names:
        name, version, *_ = stem.split("-")
        with zipfile.ZipFile(tmp_path / f"{stem}.whl", "w") as archive:
            archive.writestr(f"{name}.py", "x = 1\n")
            archive.writestr(f"{name}-{version}.dist-info/METADATA", "")
    into = tmp_path / "packages"
    wanted = [stem.split("-")[0] for stem, fits in names.items() if fits]
    assert gpu.unpack(tmp_path, into) == sorted(wanted)
    assert sorted(path.stem for path in into.glob("*.py")) == sorted(wanted)
    assert gpu.unpack(tmp_path, into) == []


def test_wheels_are_pinned_and_named_once():
    lines = (ROOT / "benchmarks" / "gpu_wheels.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert {len(pin) for pin in pins} == {2}
    names = [name.lower() for name, _ in pins]
    assert names == sorted(set(names))


def test_a_report_of_nothing_says_so(tmp_path):
    text = gpu_report.report(tmp_path, "cuda")
    assert text.count("not run") == text.count("## ") == 7
