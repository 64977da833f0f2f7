"""Random configurations and command lines: each is taken, or refused by name."""

import contextlib
import dataclasses
import io
import random
import re
from typing import Any

from benchmarks.faults.row import Row, Scenario, require
from trpo.cli.main import main
from trpo.config.run import TrainConfig, TRPOConfig


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 2**63, 0.5, -0.0, 1e-300, 1e300, float("nan"),
    float("inf"), "", "jax", "float64", "NaN", "64", (), (0,), (64, 64), [3], {},
    b"x", object(), 1j, "\x00", "∞",
)  # fmt: skip


def configurations(row: Row) -> None:
    """Any values of any fields, at construction."""
    draw, taken = random.Random(5), 0
    names = {
        k: [f.name for f in dataclasses.fields(k)] for k in (TRPOConfig, TrainConfig)
    }
    for index in range(row.tries):
        kind = (TRPOConfig, TrainConfig)[index % 2]
        count = draw.randint(1, 3)
        values = {name: draw.choice(ODD) for name in draw.sample(names[kind], count)}
        given: dict[str, Any] = {}
        if kind is TrainConfig:
            given["env_id"] = "Pendulum-v1"
        with row.attempt(values):
            try:
                made = kind(**given | values)
                taken += 1
                if kind is TrainConfig:
                    require(made.num_updates >= 1, "no update")  # pyright: ignore
                    made.numbers_at(0)  # pyright: ignore
            except ValueError as error:
                named = re.match("`([a-z_]+)", str(error))
                require(named and named[1] in values, f"names no field: {error}")
    row.note = f"{taken} taken, the others refused by name"


COMMANDS = ("train", "sweep", "evaluate", "presets", "spaces", "doctor", "bogus")
OPTIONS = (
    "--num-envs", "--seed", "--target-kl", "--backend", "--device", "--total-steps",
    "--resume", "--run-dir", "--preset", "--policy-layer-sizes", "--gamma", "--bogus",
    "--episodes", "--compiled", "--num-seeds", "--on-bad-data", "--environment-timeout",
    "--environment-restarts", "--dtype", "--recurrent",
)  # fmt: skip
# Every line has one of these, so that none begins to train.
FATAL = (
    ("--gamma", "2"), ("--seed", "-1"), ("--bogus", "1"), ("--num-envs", "0"),
    ("--backend", "tensorflow"), ("--resume", "/nonexistent"), ("--dtype", "float16"),
    ("--run-dir", "/proc/nowhere"), ("--preset", "nothing"), ("--device", "nowhere"),
)  # fmt: skip
WORDS = (
    "Pendulum-v1",
    "Nothing-v0",
    "",
    "-1",
    "nan",
    "/nonexistent",
    "64",
    "x y",
    "[/]",
)


def command_lines(row: Row) -> None:
    """Any words after `trpo`: an exit status and a message, never a traceback."""
    draw = random.Random(6)
    for _ in range(row.tries):
        words = [draw.choice(COMMANDS)]
        words += [draw.choice(WORDS)] * draw.randint(0, 1)
        for _ in range(draw.randint(0, 3)):
            words += [draw.choice(OPTIONS), draw.choice(WORDS)][: draw.randint(1, 2)]
        words += draw.choice(FATAL)
        out = io.StringIO()
        with row.attempt(words):
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                status = main(words)
            require("Traceback" not in out.getvalue(), out.getvalue()[-300:])
            require(status == 2, f"exit status {status}: {out.getvalue()[-200:]}")


SCENARIOS = [
    Scenario("configuration", "any values of any fields", 10_000, configurations, 500),
    Scenario("configuration", "any command line", 10_000, command_lines, 20),
]
