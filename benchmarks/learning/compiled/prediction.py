"""What compiled training should take on one H100 or H200, counted on paper.

One iteration is one program without a return to the host: what it starts is counted in
XLA's optimised text, as `benchmarks.speed.launches` does for an update.
"""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.command import Output, run_command
from benchmarks.learning.compiled.report import PREDICTION, RESULTS
from benchmarks.speed import launches
from benchmarks.speed.measures.compiled import CHUNK
from benchmarks.speed.measures.training import BATCH, LEAST_STEPS, training_config
from benchmarks.speed.prediction import (
    HOST_READ_SECONDS,
    HOST_READS,
    LAUNCH_SECONDS,
    TURNS,
)


ENV_ID = "phys2d/Pendulum-v0"
NUMBERS = (8, 64, 512, 2_048)
MEMBERS = 16


class Prediction(NamedTuple):
    """One iteration on one H100 or H200, of which launches alone decide.

    Attributes:
        launches: kernels, one after the other.
        seconds: those launches, and the loop conditions that the host reads.
        steps: of all environments.
    """

    launches: int
    seconds: float
    steps: int

    @property
    def steps_per_second(self) -> float:
        """Environment steps of one member."""
        return self.steps / self.seconds


def counted() -> dict[str, int]:
    """Launches of an iteration, by the number of environments."""
    return {
        str(num_envs): launches.count(iteration_program(ENV_ID, num_envs), TURNS)
        for num_envs in NUMBERS
    }


def predict(num_envs: int, number: int) -> Prediction:
    """The prediction for one member, of so many launches; many share every launch.

    Arithmetic and memory traffic are left out: a launch of this size takes less time
    than it takes to start, also for 16 members.
    """
    seconds = number * LAUNCH_SECONDS + HOST_READS * HOST_READ_SECONDS
    steps = num_envs * training_config(ENV_ID, num_envs).rollout_steps
    return Prediction(number, seconds, steps)


def iteration_program(env_id: str, num_envs: int) -> str:
    """XLA's optimised program of one iteration, noise included."""
    from trpo_jax.loop.iteration import iterate
    from trpo_jax.loop.rollout import draw_noise
    from trpo_jax.loop.trainer import CompiledTrainer

    config = training_config(env_id, num_envs)
    trainer = CompiledTrainer([config], longest_chunk=CHUNK, episodes=1)
    program = trainer.program

    def iteration(state, member, numbers):  # noqa: ANN001, ANN202
        noise = draw_noise(
            member.key,
            state.update,
            head=program.policy.functions.head,
            shape=(program.rollout_steps, program.num_envs),
            epochs=program.options.value_epochs,
            dtype=program.policy.dtype,
        )
        return iterate(program, numbers, state, noise)[:2]

    numbers = jax.tree.map(lambda x: np.asarray(x[0]), trainer._numbers(1))
    lowered = jax.jit(iteration).lower(trainer._state, trainer._members, numbers)
    text = lowered.compile().as_text()
    assert text is not None, "XLA gives no text of its program"
    return text


def page(folder: Path) -> str:
    """Markdown, of the launches that were counted."""
    numbers = json.loads((folder / f"{PREDICTION}.json").read_text())
    lines = [
        "Not run: there was no GPU. Launches of one iteration are counted in the "
        "program that XLA optimised for a CPU; a GPU fuses by other rules, so take "
        f"them as within a factor of two. {1e6 * LAUNCH_SECONDS:.1f} µs for a launch, "
        f"{1e6 * HOST_READ_SECONDS:.0f} µs for a loop condition that the host reads; "
        "arithmetic and traffic hide behind the launches, so that an H100 and an H200 "
        "need the same. Members share all launches: "
        f"{MEMBERS} take as long as one until their arithmetic shows.",
        "",
        f"| environments | launches | ms | steps/s, one member | {MEMBERS} members |",
        "|---:|---:|---:|---:|---:|",
    ]
    for num_envs in NUMBERS:
        found = predict(num_envs, numbers[str(num_envs)])
        lines.append(
            f"| {num_envs:,} | {found.launches:,} | {1e3 * found.seconds:.1f} | "
            f"{found.steps_per_second:,.0f} | "
            f"**{MEMBERS * found.steps_per_second:,.0f}** |"
        )
    lines += [
        "",
        f"{BATCH:,} samples an iteration, so more environments mean fewer steps one "
        f"after the other; of more than {BATCH // LEAST_STEPS:,} environments, "
        f"{LEAST_STEPS} of each.",
    ]
    return "\n".join(lines) + "\n"


@dataclasses.dataclass
class Arguments(Output):
    """Count the launches of one iteration; write and print what they predict."""


def main(arguments: Arguments) -> None:
    """Count, write, print."""
    folder = arguments.folder(RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{PREDICTION}.json").write_text(json.dumps(counted(), indent=1) + "\n")
    text = page(folder)
    (folder / f"{PREDICTION}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    run_command(main, Arguments)
