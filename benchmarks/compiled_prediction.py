"""What compiled training should take on one H100, counted on paper.

One iteration is one program without a return to the host: what it starts is counted in
XLA's optimised text, as `benchmarks.launches` does for an update.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tyro

from benchmarks import launches
from benchmarks.compiled_cell import CHUNK
from benchmarks.compiled_report import PREDICTION
from benchmarks.prediction import CANDIDATES, HOST_READ_SECONDS, LAUNCH_SECONDS
from benchmarks.subjects import CG_ITERATIONS
from benchmarks.training_cell import BATCH, training_config


RESULTS = Path(__file__).parent / "results" / "compiled"
NUMBERS = (8, 64, 512)
MEMBERS = 16


class Prediction(NamedTuple):
    """One iteration of 2,048 steps on one H100.

    Attributes:
        launches: kernels, one after the other.
        seconds: those launches, and the loop conditions that the host reads.
    """

    launches: int
    seconds: float

    @property
    def steps_per_second(self) -> float:
        """Environment steps of one member."""
        return BATCH / self.seconds


def predict(env_id: str, num_envs: int) -> Prediction:
    """The prediction for one member; many share every launch.

    Arithmetic and memory traffic are left out: a launch of this size takes less time
    than it takes to start, also for 16 members.
    """
    turns = (CG_ITERATIONS, CANDIDATES)
    number = launches.count(iteration_program(env_id, num_envs), turns)
    reads = sum(turns) + len(turns)
    return Prediction(number, number * LAUNCH_SECONDS + reads * HOST_READ_SECONDS)


def iteration_program(env_id: str, num_envs: int) -> str:
    """XLA's optimised program of one iteration, noise included."""
    from trpo_jax.compiled_iteration import iterate
    from trpo_jax.compiled_rollout import draw_noise
    from trpo_jax.compiled_run import CompiledTrainer

    config = training_config(env_id, num_envs)
    trainer = CompiledTrainer([config], longest_chunk=CHUNK, episodes=1)
    program = trainer.program

    def iteration(state, member, rates):  # noqa: ANN001, ANN202
        noise = draw_noise(
            member.key,
            state.update,
            head=program.policy.functions.head,
            shape=(program.rollout_steps, program.num_envs),
            epochs=program.agent.value_epochs,
            dtype=program.policy.dtype,
        )
        return iterate(program, member.hyperparameters, state, rates, noise)[:2]

    rates = jax.tree.map(lambda x: np.asarray(x[0]), trainer._rates())
    lowered = jax.jit(iteration).lower(trainer._state, trainer._members, rates)
    text = lowered.compile().as_text()
    assert text is not None, "XLA gives no text of its program"
    return text


def table() -> str:
    """Markdown."""
    lines = [
        "Not run: there was no GPU. Launches of one iteration are counted in the "
        "program that XLA optimised for a CPU; a GPU fuses by other rules, so take "
        f"them as within a factor of two. {1e6 * LAUNCH_SECONDS:.1f} µs for a launch, "
        f"{1e6 * HOST_READ_SECONDS:.0f} µs for a loop condition that the host reads; "
        "arithmetic and traffic hide behind the launches. Members share all launches: "
        f"{MEMBERS} take as long as one until their arithmetic shows.",
        "",
        f"| environments | launches | ms | steps/s, one member | {MEMBERS} members |",
        "|---:|---:|---:|---:|---:|",
    ]
    for num_envs in NUMBERS:
        found = predict("phys2d/Pendulum-v0", num_envs)
        lines.append(
            f"| {num_envs:,} | {found.launches:,} | {1e3 * found.seconds:.1f} | "
            f"{found.steps_per_second:,.0f} | "
            f"**{MEMBERS * found.steps_per_second:,.0f}** |"
        )
    lines += [
        "",
        f"{BATCH:,} samples an iteration throughout, so more environments mean fewer "
        "steps one after the other.",
    ]
    return "\n".join(lines) + "\n"


def main(out: Path = RESULTS / PREDICTION) -> None:
    """Write and print the prediction.

    Args:
        out: Markdown file.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(table())
    print(out.read_text())


if __name__ == "__main__":
    tyro.cli(main)
