"""The commands on spoilt run directories, in one process that has imported a framework.

`python -m benchmarks.faults.untrusted.spoilt_commands BACKEND TRIES SEED`.
"""

import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from hypothesis import given, seed, settings, strategies as st

from benchmarks.faults.untrusted.spoilt_runs import (
    Fault,
    Outside,
    drawing,
    forget_pictures,
    several,
)
from trpo.cli.main import main as trpo
from trpo.runs.train import train_run
from trpo.sweeps.sweep import parse_values, sweep_runs


# Of one command, on a machine however busy: what hangs never ends.
SECONDS = 300.0
STEPS = 48
VALUES = [
    *("num_envs=2", "rollout_steps=8", "policy_layer_sizes=4x3"),
    *("critic_layer_sizes=4x3", "value_epochs=1", "eval_episodes=1"),
    *("checkpoint_interval=2", "eval_interval=2"),
]
# Share of the tries; a sweep starts a process.
COMMANDS = {"evaluate": 0.3, "plot": 0.25, "resume": 0.3, "sweep": 0.15}


def arguments_of(command: str, run: Path, backend: str) -> list[str]:
    """What `trpo` is called with."""
    if command == "evaluate":
        return ["evaluate", str(run), "--episodes", "1"]
    if command == "plot":
        return ["plot", str(run)]
    if command == "resume":
        return ["train", "--resume", str(run), "--total-steps", str(STEPS + 16)]
    return [
        *("sweep", "CartPole-v1", "--backend", backend, "--total-steps", str(STEPS)),
        *("--seeds", "1", "--values", *VALUES, "--run-dir", str(run.parent)),
    ]


def call(arguments: list[str], run: Path) -> int:
    """Run a command; it ends in a result, or in one line that names a file."""
    out, errors = io.StringIO(), io.StringIO()
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = trpo(arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    said = out.getvalue() + errors.getvalue()
    assert status in (0, 1, 2), (status, said)
    assert "Traceback" not in said, said
    if status == 2:
        lines = [line for line in errors.getvalue().splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith("warning: ")]
        assert len(lines) == 1, said
        assert lines[0].startswith("error: "), said
    if status:
        assert str(run) in said, said
    if status == 1:  # A run of a sweep has failed: its own line is shown.
        assert arguments[0] == "sweep", said
        lines = said.splitlines()
        for start in ("error: ", "  error: "):  # The command's, and the run's beneath.
            assert sum(line.startswith(start) for line in lines) == 1, said
    return status


def _end_all(tried: list[str]) -> None:
    """What hangs, or a process that it waits for, would not be ended by an error."""
    os.write(2, f"not done after {SECONDS} s: {tried[-1:]}\n".encode())
    os.killpg(0, signal.SIGKILL)


def main(backend: str, tries: int, first: int) -> None:
    """Make a run, spoil copies of it and give them to the commands.

    Args:
        backend: "jax" or "torch".
        tries: How often.
        first: Seed of what is drawn.
    """
    with contextlib.suppress(PermissionError):  # It leads a group already.
        os.setsid()
    tried: list[str] = []
    signal.signal(signal.SIGALRM, lambda *_: _end_all(tried))
    values = parse_values(VALUES)
    (swept,) = sweep_runs(
        ["CartPole-v1"], 1, values, backend=backend, total_steps=STEPS
    )
    statuses: dict[str, list[int]] = {command: [] for command in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="trpo-torture-") as name:
        root, outside = Path(name) / "runs", Outside(Path(name) / "outside")
        template, run = Path(name) / "template", root / swept.name
        with contextlib.redirect_stdout(io.StringIO()):
            train_run(swept.config, template)
        forget_pictures(template)

        def try_one(command: str, found: list[Fault]) -> None:
            tried.append(f"{command} {found}")
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(template, run)
            for fault in found:
                fault.make(run / fault.path, outside.path)
            statuses[command].append(call(arguments_of(command, run, backend), run))
            outside.require_untouched()

        for command, share in COMMANDS.items():

            @seed(f"{first} {command}")
            @settings(drawing(round(share * tries)))
            @given(several(template), st.just(command))
            def draw(found: list[Fault], command: str) -> None:
                try_one(command, found)

            draw()
    done = sum(map(len, statuses.values()))
    sys.stdout.write(f"{done} tries {statuses}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
