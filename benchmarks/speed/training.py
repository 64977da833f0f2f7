"""Environment steps per second of training, end to end, and the latency of `act`.

python -m benchmarks.speed.training [--peers]
"""

import dataclasses

from benchmarks.command import run_command
from benchmarks.speed.cell import Cell
from benchmarks.speed.problems import size
from benchmarks.speed.runner import run
from benchmarks.speed.update import Timed


ACTING_ENVIRONMENTS = 8


@dataclasses.dataclass
class Arguments(Timed):
    """Time training iterations of 2,048 steps; each cell in a process of its own."""

    rounds: int = 5
    """Processes of each cell; each gives one sample."""
    env_ids: tuple[str, ...] = ("Pendulum-v1", "HalfCheetah-v5")
    """Environments; MuJoCo's need the `mujoco` extra."""
    num_envs: tuple[int, ...] = (1, 8, 32)
    """Numbers of environments stepped together."""


def cells_of(arguments: Arguments) -> list[Cell]:
    """Training cells and acting cells of each subject."""
    subjects = arguments.backends + (("sb3-contrib",) if arguments.peers else ())
    device = arguments.device
    pooled = tuple(f"{backend}-envpool" for backend in arguments.backends)
    training = [
        Cell(
            kind="training", subject=subject, device=device, mode="natural",
            env_id=env_id, num_envs=count,
        )
        for env_id in arguments.env_ids
        for count in arguments.num_envs
        for subject in subjects + pooled
    ]  # fmt: skip
    acting = [
        Cell(
            kind="act", subject=subject, device=device, mode="natural",
            size=size("HalfCheetah", 64, 64, 64), num_envs=ACTING_ENVIRONMENTS,
        )
        for subject in subjects
    ]  # fmt: skip
    return training + acting


def main(arguments: Arguments) -> None:
    """Measure; `python -m benchmarks.speed.report` writes the tables."""
    store = arguments.open("training")
    run(cells_of(arguments), arguments.rounds, store, arguments.settings)


if __name__ == "__main__":
    run_command(main, Arguments)
