"""What is printed: as it is, for any name, on any stream, and from one place."""

import ast
import contextlib
import io
import os
import random
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from rich.console import Console

from tests.project.test_isolation import ROOT
from trpo.cli import spaces_table as comparison
from trpo.cli.main import main
from trpo.common.terminal import (
    SafeStream,
    Terminal,
    quoted,
    readable,
    safe_streams,
    visible,
)
from trpo.runs.curves_page import write_diagnostics
from trpo.runs.directory import RunDirectory
from trpo.runs.learning_curves import label, learning_curves_png
from trpo.runs.metrics import read_metrics
from trpo.sweeps.pool import execute
from trpo.sweeps.report import SweepRow, write_report


# Escapes of C0 and C1, deletions, directions, line ends, bytes that are no UTF-8,
# markup, mathematics, shells, and plain letters.
ODD = (
    "\x1b[31m", "\x9b31m", "\x1b]0;title\x07", "\x7f", "\r", "\n", "\t", "\x00"[:0],
    "\u202e", "\u2066", "\u200b", "\x85", "\u2028", "\udcff", "\xa0", "[/b]", "[bold]",
    ":smile:", "$", "$_{", "^", "\\", "\\$", "'", '"', "`", "!", "*", "~", "-", " ",
    "±", "é", "日", "a", "b1",
)  # fmt: skip
NASTY = "-a[/b][bold]\x1b[31m\n\u202e\x9b'$_{^\\é \udcff"
TRAIN = (
    *("--num-envs", "2", "--rollout-steps", "16", "--total-steps", "64"),
    *("--eval-episodes", "1", "--policy-layer-sizes", "4", "--value-epochs", "1"),
    *("--critic-layer-sizes", "4", "--backend", "torch"),
)


def odd_names(count):
    draw = random.Random(0)
    return ["".join(draw.choices(ODD, k=draw.randint(1, 6))) for _ in range(count)]


def assert_harmless(text):
    assert all(line.isprintable() for line in text.split("\n")), ascii(text)


def test_nothing_acts_on_the_terminal():
    for name in odd_names(500):
        assert visible(name).isprintable()
        file = io.StringIO()
        terminal = Terminal(Console(file=file, width=40))
        terminal.say(name, [(name, "red"), name], style="bold")
        # One line each, however long, and nothing of it is markup.
        assert file.getvalue() == f"{visible(name)}\n{visible(name) * 2}\n"
        terminal.error(ValueError(name))
        terminal.table((name,), [(name,)])
        assert_harmless(file.getvalue())
    assert visible("\x1b[2J\n\u202e") == r"\x1b[2J\n\u202e"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_bar_shows_names_as_they_are(encoding):
    for name in odd_names(20):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding)
        console = Console(file=stream, force_terminal=True, width=400)
        with Terminal(console).bar(3) as bar, Terminal(console).status(name) as show:
            bar.show(1, name)
            show(name)
        stream.flush()
        printed = raw.getvalue().decode(encoding)
        assert readable(visible(name), encoding).strip() in printed


def test_an_error_is_one_line_and_its_notes_below(capsys):
    error = RuntimeError("a\nerror: b")
    error.add_note("first\n\x1b[31msecond")
    Terminal(stderr=True).error(error)
    assert capsys.readouterr().err == (
        "error: a\\nerror: b\n  first\n  \\x1b[31msecond\n"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_quoted_paths_are_read_back_by_a_shell(encoding, monkeypatch):
    names = [name for name in odd_names(500) if name] + [NASTY]
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    words = [quoted(name) for name in names]
    monkeypatch.undo()
    for word in words:
        assert word.isprintable()
        assert word == readable(word, encoding)
    script = "printf '%s\\0' " + " ".join(words)
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    back = [os.fsdecode(part) for part in done.stdout.split(b"\0")[:-1]]
    assert [Path(path) for path in back] == [Path(name) for name in names]
    assert not any(path.startswith("-") for path in back)


def test_a_run_of_a_nasty_name_is_trained_resumed_and_plotted(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "Pendulum-v1", *TRAIN, f"--run-dir={NASTY}"]) == 0
    printed = capsys.readouterr().out
    assert_harmless(printed)
    commands = [
        line.partition(":")[2].strip()
        for line in printed.splitlines()
        if line.startswith("  ")
    ][-3:]
    # As a shell reads them.
    words = [
        os.fsdecode(
            subprocess.run(
                ["bash", "-c", f"printf '%s\\0' {command}"],
                capture_output=True,
                check=True,
            ).stdout
        ).split("\0")[:-1]
        for command in commands
    ]
    assert [line[:2] for line in words] == [
        ["trpo", "evaluate"], ["trpo", "train"], ["tensorboard", "--logdir"],
    ]  # fmt: skip
    assert main([*words[0][1:], "--episodes", "1"]) == 0
    assert main(words[1][1:]) == 0
    assert Path(words[2][2]).is_dir()
    assert len(read_metrics(Path(NASTY) / "metrics.csv")) == 4
    assert main(["train", "Pendulum-v1", *TRAIN, f"--run-dir={NASTY}"]) == 2
    assert main(["plot", words[0][2]]) == 0
    caught = capsys.readouterr()
    assert_harmless(caught.out + caught.err)
    assert f"continue it by: trpo train --resume {quoted(NASTY)}" in caught.err.lower()
    page = (Path(NASTY) / "diagnostics.html").read_text("utf-8")
    assert "\x1b" not in page
    assert "\u202e" not in page


@pytest.mark.parametrize(
    "name", ["a$", "$_{", "$a_b^c$", r"\$x$", "_x", "a\x1b\n", "^"]
)
def test_a_name_is_no_mathematics(tmp_path, name):
    rows = [{"step": 1.0, "rollout/episode_return_mean": 1.0, "policy/kl": 1.0}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, of a label that it leaves out.
        assert learning_curves_png({name: rows, "other": rows}, name)
    assert label(name).lstrip().replace(r"\$", "$") == visible(name)
    directory = RunDirectory(tmp_path / "run")
    row = SweepRow(f"{name}-v0", name, 0, 1.0, 1.0, directory.path)
    write_report([row], tmp_path)


def test_names_on_the_page_are_text(tmp_path, capsys):
    runs = [tmp_path / name for name in ("<script>x", "$_{\x1b")]
    for run in runs:
        assert main(["train", "Pendulum-v1", *TRAIN, "--run-dir", str(run)]) == 0
    _, page = write_diagnostics(runs, tmp_path)
    text = page.read_text("utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;x" in text
    assert r"$_{\x1b" in text


class Cursing(gymnasium.Env):
    """Says what acts on a terminal, and fails with it."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        warnings.warn("\x1b[33mgo\x1b[0m\x1b[2J", stacklevel=1)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        raise self.error("\x1b[2J[bold]\u202e\nerror: all is well")

    error = RuntimeError


class Unforeseen(Cursing):
    """Fails with what no command foresees."""

    def __init__(self):
        raise ZeroDivisionError("\x1b[2J")


gymnasium.register("TrpoTest/Cursing-v0", Cursing)
gymnasium.register("TrpoTest/Unforeseen-v0", Unforeseen)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_an_environment_raises_is_text(tmp_path, capsys):
    options = [*TRAIN, "--run-dir"]
    assert main(["train", "TrpoTest/Cursing-v0", *options, str(tmp_path / "a")]) == 2
    caught = capsys.readouterr()
    assert_harmless(caught.out + caught.err)
    assert r"\x1b[2J[bold]\u202e\nerror: all is well" in caught.err
    # Its traceback too.
    assert "in step" in caught.err
    assert main(["train", "TrpoTest/Unforeseen-v0", *options, str(tmp_path / "b")]) in (
        1,
        2,
    )
    error = capsys.readouterr().err
    assert_harmless(error)
    assert r"ZeroDivisionError: \x1b[2J" in error


def test_wrong_arguments_are_text(capsys):
    for arguments in (
        ["\x1b[31mfly"],
        ["evaluate", "no\x1b[31m-\n-run"],
        ["presets", "\x1b[31m"],
        ["train", "\x1b[31mPendulum\n-v1"],
        ["sweep", "Pendulum-v1", "--values", "\x1b[31m=1"],
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert_harmless(error)
        assert error.count("\n") == 1
    assert main(["train", "Pendulum-v1", "--fl\x1b[31my"]) == 2
    assert r"--fl\x1b[31my" in capsys.readouterr().err


def test_a_warning_is_text():
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, safe_streams():
        patch.setattr(sys, "stderr", file)
        text = warnings.formatwarning(
            UserWarning("\x1b[33mgo\x1b[0m \x1b[2J"), UserWarning, "", 1
        )
    assert text == "warning: go \\x1b[2J\n"


class Refusing(io.StringIO):
    """A stream that writes a little and then refuses."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


@contextlib.contextmanager
def bad_stream(kind):
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        if kind == "full":
            yield stack.enter_context(Path("/dev/full").open("w"))
        elif kind == "pipe":
            reader, writer = os.pipe()
            os.close(reader)
            yield stack.enter_context(os.fdopen(writer, "w"))
        elif kind == "closed":
            stream = io.StringIO()
            stream.close()
            yield stream
        else:
            yield None if kind == "none" else io.TextIOWrapper(io.BytesIO(), "ascii")


@pytest.mark.parametrize("kind", ["full", "pipe", "closed", "none", "ascii"])
def test_a_stream_that_fails_ends_no_run(tmp_path, monkeypatch, kind, capfd):
    run = tmp_path / "run"

    def status_of(*arguments, streams=("stdout",)):
        with bad_stream(kind) as stream, monkeypatch.context() as patch:
            for name in streams:
                patch.setattr(sys, name, stream)
            status = main(arguments)
            if kind == "ascii":
                stream.flush()
                printed.append(stream.buffer.getvalue().decode("ascii"))
            return status

    printed = []
    assert status_of("train", "Pendulum-v1", *TRAIN, "--run-dir", str(run)) == 0
    assert RunDirectory(run).load()[0].step == 64
    assert (run / "evaluation.json").stat().st_size > 0
    # What is asked for to be read can't be.
    expected = {"ascii": 0, "pipe": 141}.get(kind, 2)
    for asked in (
        ["evaluate", str(run), "--episodes=1"],
        ["presets"],
        ["plot", str(run)],
    ):
        assert status_of(*asked) == expected
    both = ("stdout", "stderr")
    more = ("train", "--resume", str(run), "--total-steps", "96")
    assert status_of(*more, streams=both) == 0
    assert RunDirectory(run).load()[0].step == 96
    assert status_of("fly", streams=both) == 2
    if kind == "ascii":
        assert "trained for 64 steps" in printed[1]
    assert "Traceback" not in capfd.readouterr().err


def test_the_process_ends_as_it_would(tmp_path):
    run = f"{sys.executable} -m trpo spaces"
    code = (
        "from trpo.common.terminal import safe_streams\n"
        "with safe_streams():\n    print('trained')"
    )
    writes = f"{sys.executable} -c {shlex.quote(code)}"
    ends = {
        f"{run} > /dev/full": 2,
        f"{run} >&-": 2,
        f"{run} >&- 2>&-": 2,
        f"{run} 2>/dev/full": 0,
        f"{run} <&- 2>&-": 0,
        f"PYTHONIOENCODING=ascii {run}": 0,
        f"PYTHONIOENCODING=latin-1 LC_ALL=C {run}": 0,
        f"{run} | :; exit ${{PIPESTATUS[0]}}": 141,
        # Its status is not that of what it could not print as the interpreter ended.
        f"{writes} > /dev/full": 0,
        f"{writes} | sleep 0; exit ${{PIPESTATUS[0]}}": 0,
    }
    # Buffered, as it is usually.
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    started = [
        subprocess.Popen(
            ["bash", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=tmp_path, env={**variables, "PYTHONPATH": str(ROOT)},
        )
        for line in ends
    ]  # fmt: skip
    for (line, status), process in zip(ends.items(), started, strict=True):
        _, errors = process.communicate()
        assert process.returncode == status, (line, errors)
        assert b"Traceback" not in errors, line
        assert b"Exception" not in errors, line


def test_a_file_has_no_stream_of_the_process(tmp_path):
    # What writes to descriptor 1 in C would write into it.
    code = (
        "from trpo.common.terminal import safe_streams\n"
        "with safe_streams(), open('file', 'wb') as file:\n"
        "    assert file.fileno() > 2, file.fileno()\n"
    )
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-"):
        line = f"{sys.executable} -c {shlex.quote(code)} {closed}"
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert done.returncode == 0, closed


def test_a_stream_that_failed_goes_on_when_it_can():
    stream = Refusing()
    safe = SafeStream.of(stream)
    assert SafeStream.of(safe) is safe
    assert safe.write("abc") == 3
    assert isinstance(safe.error, BrokenPipeError)
    stream.write = io.StringIO.write.__get__(stream)
    safe.write("def")
    assert stream.getvalue() == "def"


def test_a_failed_run_of_a_sweep_says_its_last_lines(tmp_path, capsys):
    code = (
        "import sys\n"
        "sys.stdout.buffer.write(b'x' * 9999 + b'\\n\\xff\\x1b[2J\\n')\n"
        "sys.exit(3)"
    )

    class Never:
        def is_set(self):
            return False

    with pytest.raises(RuntimeError, match="exit status 3") as caught:
        execute([sys.executable, "-c", code], tmp_path / "log", Never())
    Terminal().error(caught.value)
    assert capsys.readouterr().out.splitlines()[-1] == r"  \xff\x1b[2J"


PRINTERS = {"trpo/common/terminal.py"}
# Tells its parent an address, by a pipe.
PROTOCOLS = {"trpo/environments/ray_cluster.py"}


def modules():
    folders = ("trpo", "trpo_jax", "trpo_torch")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [*paths, *(ROOT / "parity_tests" / "certificate").glob("*.py")]


def prints(tree):
    """What prints, or makes something that does, in a module."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.split(".")[-1] in ("print", "Console") or (
                name.startswith(("sys.stdout.", "sys.stderr.", "sys.__std"))
            ):
                found.append(name)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("rich"):
            found += [a.name for a in node.names if a.name != "Console"]
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("rich")]
    return found


def test_one_module_prints():
    assert len(modules()) > 100
    found = {
        str(path.relative_to(ROOT)): prints(ast.parse(path.read_text()))
        for path in modules()
    }
    assert {path for path, names in found.items() if names} == PRINTERS | PROTOCOLS


@pytest.mark.parametrize(
    "code",
    ["print(1)", "console.print(1)", "Console()", "sys.stdout.write('')",
     "from rich.table import Table", "import rich", "rich.console.Console()"],
)  # fmt: skip
def test_the_check_above_sees_what_prints(code):
    assert prints(ast.parse(code))


def test_the_table_of_spaces_is_whole(capsys):
    assert main(["spaces"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert comparison.VERSIONS in printed
