"""Environment steps per second of training, end to end, and the latency of `act`.

    python -m benchmarks.speed.training [--peers] [--before 0a1b2c3]

The parts of the acting are drawn beside the samples, as SVG.
"""

import dataclasses

from benchmarks.command import run_command
from benchmarks.speed import against
from benchmarks.speed.cell import Cell
from benchmarks.speed.problems import size
from benchmarks.speed.runner import run
from benchmarks.speed.update import Timed


ACTING_ENVIRONMENTS = 8
OTHER_PEERS = ("tianshou", "cleanrl", "sbx")
BEFORE = "training-before.csv"
PROFILE = "training-profile.svg"


@dataclasses.dataclass
class Arguments(Timed):
    """Time training iterations of 2,048 steps; each cell in a process of its own."""

    rounds: int = 5
    """Processes of each cell; each gives one sample."""
    env_ids: tuple[str, ...] = ("Pendulum-v1", "HalfCheetah-v5")
    """Environments; MuJoCo's need the `mujoco` extra."""
    num_envs: tuple[int, ...] = (1, 8, 32)
    """Numbers of environments stepped together."""
    pooled_ids: tuple[str, ...] = ("HalfCheetah-v5",)
    """Environments that EnvPool steps, too; needs the `envpool` extra."""
    pooled_envs: tuple[int, ...] = (8, 64)
    """Numbers of these."""
    before: str = ""
    """A commit; training by a preset as it was then is timed in turns with today's."""


def cells_of(arguments: Arguments) -> list[Cell]:
    """Training cells and acting cells of each subject."""
    sb3 = ("sb3-contrib",) if arguments.peers else ()
    subjects, device = arguments.backends + sb3, arguments.device
    pooled = tuple(f"{backend}-envpool" for backend in arguments.backends)
    named = {
        (env_id, count, subject)
        for env_ids, counts, names in (
            (arguments.env_ids, arguments.num_envs, subjects),
            (arguments.pooled_ids, arguments.pooled_envs, sb3 + pooled),
            (
                arguments.env_ids, (ACTING_ENVIRONMENTS,),
                OTHER_PEERS if arguments.peers else (),
            ),
        )
        for env_id in env_ids
        for count in counts
        for subject in names
    }  # fmt: skip
    training = [
        Cell(
            kind="training", subject=subject, device=device, mode="natural",
            env_id=env_id, num_envs=count,
        )
        for env_id, count, subject in sorted(named)
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
    from benchmarks.speed.report.figures import acting_profile

    store = arguments.open("training")
    run(cells_of(arguments), arguments.rounds, store, arguments.settings)
    if arguments.before:
        against.compare_training(
            arguments.before, arguments.backends, arguments.rounds,
            4.0 * arguments.seconds, store.path.with_name(BEFORE),
        )  # fmt: skip
    acting_profile(store, store.path.with_name(PROFILE))


if __name__ == "__main__":
    run_command(main, Arguments)
