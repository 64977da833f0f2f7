"""Faults of whole runs: bad data and kills; and what must never differ."""

import dataclasses
import functools
import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from rich.console import Console

from benchmarks.faults.checkpoints import scratch
from benchmarks.faults.row import Row, Scenario, require
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.rollout.transitions import NonFiniteTransitionError
from trpo.runs.checkpoint import newest_checkpoint
from trpo.runs.compiled import train_compiled_run
from trpo.runs.directory import RunDirectory
from trpo.runs.train import train_run
from trpo.training.trainer import Trainer


BACKENDS = ("torch", "jax")
AGENT = TRPOConfig(
    policy_layer_sizes=(8,), critic_layer_sizes=(8,), value_epochs=2, cg_iters=4
)


class Walk(gymnasium.Env):
    """A random walk of ten steps; its reward is NaN when the seed says so."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, poison: float = 0.0) -> None:
        self.poison = poison

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.at, self.count = self.np_random.standard_normal(2), 0
        self.bad = 7 if self.np_random.random() < self.poison else 0
        return self.at.copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Walk on."""
        self.count += 1
        self.at = 0.9 * self.at + 0.1 * self.np_random.standard_normal(2)
        reward = float(action[0] * self.at[0] - self.at[1] ** 2)
        reward = float("nan") if self.count == self.bad else reward
        return self.at.copy(), reward, False, self.count == 10, {}


def register(name: str, entry: Any, **options: Any) -> None:
    """Register an environment under TrpoTorture/…, once."""
    if f"TrpoTorture/{name}" not in gymnasium.registry:
        gymnasium.register(
            f"TrpoTorture/{name}", entry, kwargs=options, disable_env_checker=True
        )


class Levels(gymnasium.Wrapper):
    """A curriculum: each episode is a level higher."""

    level = 0

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[Any, dict]:
        """Begin an episode of the next level."""
        self.level = self.level + 1
        return super().reset(seed=seed, options=options)


register("Walk-v0", Walk)
register("Levels-v0", lambda: Levels(Walk()))
register("PoisonedWalk-v0", Walk, poison=0.3)


def config(backend: str, name: str = "Walk-v0", **changes: Any) -> TrainConfig:
    """A short run on a small environment."""
    given: dict[str, Any] = {
        "env_id": f"benchmarks.faults.runs:TrpoTorture/{name}", "backend": backend,
        "num_envs": 3, "rollout_steps": 16, "total_steps": 48 * 6, "agent": AGENT,
        "eval_episodes": 0, "checkpoint_interval": 1, "keep_checkpoints": 50,
    }  # fmt: skip
    return TrainConfig(**given | changes)


def digest(state: dict[str, np.ndarray]) -> str:
    """SHA-256 of every name and byte of a state."""
    whole = hashlib.sha256()
    for name in sorted(state):
        array = state[name]
        whole.update(f"{name} {array.dtype.str} {array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()


def quiet() -> Console:
    """A console that keeps what is printed."""
    return Console(file=StringIO(), width=200)


def said_on(console: Console) -> str:
    """What was printed on a quiet console."""
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def stops_saved(row: Row) -> None:
    """A NaN in the middle of a run: what it had learned is saved, and it is named."""
    for index in range(row.tries):
        backend, console = BACKENDS[index % 2], quiet()
        # Poison that starts later with other seeds.
        settings = config(
            backend, "PoisonedWalk-v0", seed=index, rollout_steps=5,
            total_steps=15 * 20, checkpoint_interval=100,
        )  # fmt: skip
        with scratch() as root, row.attempt(f"{backend}, seed {index}"):
            try:
                train_run(settings, root / "run", console=console)
                require(False, "it did not stop")
            except NonFiniteTransitionError as error:
                require("from environment" in str(error), f"it said {error}")
            require("continue: trpo train --resume" in said_on(console), "not told")
            saved = RunDirectory(root / "run").load()[0]
            done = int(saved.arrays["training.update"])
            with Trainer(settings) as again:
                again.run(num_updates=done)
                same = digest(again.get_state()) == digest(saved.arrays)
                require(same, f"another state than after {done} updates")


def drops(row: Row) -> None:
    """A dropped segment: the update is that on the rest, bit for bit."""
    dropped = 0
    for index in range(row.tries):
        backend = BACKENDS[index % 2]
        settings = config(backend, "PoisonedWalk-v0", seed=index, on_bad_data="drop")
        with (
            row.attempt(f"{backend}, seed {index}"),
            Trainer(settings) as trainer,
        ):
            dropped += sum(_dropped_once(trainer) for _ in range(3))
    row.note = f"{dropped} steps dropped"


def _dropped_once(trainer: Trainer) -> int:
    """An iteration, and the same update alone; how many steps were dropped."""
    agent, seen = trainer.agent, {}
    update, before = agent.update, agent.get_state()

    def watched(batch: Any, **rates: Any) -> Any:
        seen["batch"], seen["rates"] = batch, rates
        return update(batch, **rates)

    agent.update = watched  # pyright: ignore
    count = int(trainer.train_once().metrics["rollout/dropped_steps"])
    agent.update = update  # pyright: ignore
    arrays = [array for array in seen["batch"] if array is not None]
    require(all(np.isfinite(array).all() for array in arrays), "not finite")
    require(len(arrays[0]) == 48 - count, "not counted rightly")
    # The same samples, and no more, to an agent that has seen no others.
    after = agent.get_state()
    agent.set_state(before)
    update(seen["batch"], **seen["rates"])
    alone = agent.get_state()
    kept = [name for name in after if name.startswith(("policy.", "value"))]
    same = all((alone[name] == after[name]).all() for name in kept)
    require(same, "another update than on the rest")
    agent.set_state(after)
    return count


# What a process trains, by `train(settings, directory, resume=...)`. Ranks of many
# processes are killed by `benchmarks.faults.ranks`.
RUN = """
import functools, sys
from pathlib import Path
from benchmarks.faults.runs import SUBJECTS, saves
subject, directory = sys.argv[1], Path(sys.argv[2])
settings, train = SUBJECTS[subject]
train(settings, directory, resume=bool(saves(directory)))
"""
LONG: dict[str, Any] = {
    "total_steps": 48 * 150,
    "checkpoint_interval": 1,
    "keep_checkpoints": 50,
}
COMPILED = config("jax", env_id="phys2d/Pendulum-v0", **LONG)
SUBJECTS: dict[str, tuple[TrainConfig, Callable[..., Any]]] = {
    "host": (config("torch", **LONG), train_run),
    "compiled": (COMPILED, train_compiled_run),
    "members": (COMPILED, functools.partial(train_compiled_run, num_seeds=2)),
}


def saves(run: Path) -> list[Path]:
    """Checkpoints of a run and of its members."""
    return sorted(run.glob("**/checkpoints/checkpoint-*"))


def digests(run: Path) -> list[str]:
    """Of the newest state of each member."""
    places = sorted({path.parent for path in saves(run)})
    return [digest(newest_checkpoint(path)[0].arrays) for path in places]


def killed_run(number: signal.Signals) -> Any:
    """A training process ended at a random moment; the resumed run ends in its bits."""

    def run(row: Row) -> None:
        draw = random.Random(int(number))
        for index in range(row.tries):
            subject = [*SUBJECTS][index % len(SUBJECTS)]
            with scratch() as root, row.attempt(f"{subject}, {index}"):
                for name, ends in (("whole", [False]), ("run", [True, True, False])):
                    command = [sys.executable, "-c", RUN, subject, str(root / name)]
                    for end in ends:
                        _process(command, root / name, number if end else None, draw)
                same = digests(root / "run") == digests(root / "whole")
                require(same, "not resumed exactly")

    return run


def _process(
    command: list[str], run: Path, number: signal.Signals | None, draw: random.Random
) -> None:
    """Train in a process to the end, or until it gets a signal."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if number is not None:
        while not saves(run):
            time.sleep(0.02)
            require(process.poll() is None, "it ended by itself")
        time.sleep(draw.uniform(0.0, 0.7))
        process.send_signal(number)
    _, said = process.communicate(timeout=600)
    require(process.returncode == 0 or number, said.decode()[-300:])


def deterministic(row: Row) -> None:
    """The same seed, the same bytes."""
    wanted = {}
    for index in range(row.tries):
        backend = BACKENDS[index % 2]
        with row.attempt(f"{backend}, run {index}"):
            with Trainer(config(backend)) as trainer:
                trainer.run()
                found = digest(trainer.get_state())
            require(wanted.setdefault(backend, found) == found, "other bytes")


def outlives(row: Row) -> None:
    """What an environment keeps beyond its episode is named on resume, no more."""
    draw = random.Random(0)
    for index in range(row.tries):
        backend, name = BACKENDS[index % 2], ("Levels", "Walk")[index // 2 % 2]
        half, whole = (48 * draw.randint(*ends) for ends in ((2, 4), (5, 6)))
        settings = config(
            backend, f"{name}-v0", total_steps=half, seed=index,
            vectorization=draw.choice(("sync", "async")),
        )  # fmt: skip
        with scratch() as root, row.attempt(f"{backend}, {name}, {half} steps"):
            train_run(settings, root / "run", console=quiet())
            settings = dataclasses.replace(settings, total_steps=whole)
            console = quiet()
            train_run(settings, root / "run", resume=True, console=console)
            said = " ".join(said_on(console).split())
            named = "not restored: `Levels.level`. " in said
            require(named == (name == "Levels"), f"it said {said}")
            require(said.count("not restored") == named, f"it said {said}")


SCENARIOS = [
    Scenario("run", "what outlives an episode is named on resume", 20, outlives, 4),
    Scenario("run", "NaN reward in the middle: stops, saved", 20, stops_saved, 2),
    Scenario("run", "NaN reward in the middle: dropped", 40, drops, 2),
    Scenario("run", "kill -9, resumed exactly", 12, killed_run(signal.SIGKILL)),
    Scenario("run", "SIGTERM, resumed exactly", 12, killed_run(signal.SIGTERM)),
    Scenario("run", "the same seed gives the same bytes", 20, deterministic, 4),
]
