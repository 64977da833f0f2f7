"""`make demo`: train Pendulum-v1 in both backends, compare, time and draw.

python -m benchmarks.demo [--total-steps N] [--out DIR]
"""

import dataclasses
import datetime
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.command import COMMITTED, run_command
from benchmarks.speed.report.quick_table import SIZES, time_update
from trpo.config.presets import preset_config
from trpo.runs.learning_curves import learning_curves_png
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run


BACKENDS = ("torch", "jax")
ROWS_OF_CURVE = 10
ENV_ID = "Pendulum-v1"
# What the curves are, and what the table after them is of.
EXPLANATION = (
    "The curves are two float32 runs from one seed: their rounding errors grow through "
    "the environment until they are different runs. The table below is of float64, "
    "where both backends start each update from one state and stay within its bounds."
)


@dataclasses.dataclass
class Arguments:
    """Train Pendulum-v1 in both backends from one seed and show the results."""

    total_steps: int = 100_000
    """Environment steps of each run."""
    seed: int = 0
    """Seed of both runs."""
    out: Path | None = None
    """Directory to write to; by default a new one under runs/."""
    publish: bool = False
    """Put the figure into the project's README too."""


def train_both(arguments: Arguments, out: Path, console: Console) -> dict[str, dict]:
    """Train each backend into its run directory; rows and scores by backend."""
    results = {}
    for backend in BACKENDS:
        console.rule(f"{ENV_ID} in {backend}, seed {arguments.seed}")
        config = preset_config(
            ENV_ID,
            backend=backend,
            seed=arguments.seed,
            total_steps=arguments.total_steps,
        )
        start = time.perf_counter()
        score = train_run(config, out / backend, console=console)
        results[backend] = {
            "seconds": time.perf_counter() - start,
            "score": score,
            "rows": read_metrics(out / backend / "metrics.csv"),
        }
    return results


def curves_table(results: dict[str, dict]) -> Table:
    """The two learning curves' numbers side by side."""
    table = Table(title="Learning curves: mean return of the last 100 episodes")
    table.add_column("environment steps", justify="right")
    for backend in BACKENDS:
        table.add_column(backend, justify="right")
    rows = {name: results[name]["rows"] for name in BACKENDS}
    count = min(map(len, rows.values()))
    picked = sorted({round((i + 1) * count / ROWS_OF_CURVE) for i in range(10)} - {0})
    for i in picked:
        cells = [
            f"{rows[name][i - 1].get('rollout/episode_return_mean', float('nan')):.1f}"
            for name in BACKENDS
        ]
        table.add_row(f"{rows['jax'][i - 1]['step']:,.0f}", *cells)
    table.add_section()
    scores = [results[name]["score"] for name in BACKENDS]
    table.add_row(
        "final policy, 20 episodes", *(f"{s.mean:.1f} ± {s.std:.1f}" for s in scores)
    )
    seconds = [results[name]["seconds"] for name in BACKENDS]
    table.add_row("seconds", *(f"{value:.1f}" for value in seconds))
    return table


def radius_sentence(results: dict[str, dict]) -> str:
    """Why the steps become smaller in the course of the runs."""
    config = preset_config(ENV_ID)
    setting, radius = config.full_radius_advantage_std, config.agent.target_kl
    first = []
    for name in BACKENDS:
        rows = results[name]["rows"]
        smaller = (row["step"] for row in rows if row["policy/target_kl"] < radius)
        step = next(smaller, None)
        first.append(f"{'none' if step is None else f'{step:,.0f}'} in {name}")
    return (
        "The KL of a step falls with its bound, dashed in the figure: where the "
        f"advantages' deviation is below {setting} (`full_radius_advantage_std`), the "
        "radius falls with their variance, as what is left of them is the critic's "
        f"noise. First at step {', '.join(first)}."
    )


def throughput_table() -> Table:
    """Update time of both backends at a few sizes."""
    table = Table(
        title="One update on CPU, float32, ms: median ± spread, compilation apart",
        caption="torch on one thread, jax on all; same work, interleaved",
    )
    for name in ("size", "samples", "torch", "jax", "torch / jax", "jax first"):
        table.add_column(name, justify="left" if name == "size" else "right")
    for size in SIZES:
        timings = time_update(size, repeats=5)
        torch, jax = timings["torch"], timings["jax"]
        table.add_row(
            f"{size.name} {'-'.join(map(str, size.layers))}",
            f"{size.samples:,}",
            f"{torch.median:.1f} ± {torch.spread:.1f}",
            f"{jax.median:.1f} ± {jax.spread:.1f}",
            f"{torch.median / jax.median:.2f}x",
            f"{jax.first:.0f}",
        )
    return table


def show_parity() -> int:
    """The parity table, from a process of its own that computes in float64."""
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    command = [sys.executable, "-m", "parity_tests.rings.lock_step"]
    return subprocess.run(command, check=False, env=environment).returncode


def main(arguments: Arguments) -> int:
    """Run the demonstration; returns the exit status."""
    # One thread: the networks are small, and threads that wait for each other on a
    # busy machine make PyTorch tens of times slower. Before PyTorch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    console = Console()
    start = time.perf_counter()
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    out = arguments.out or Path("runs") / f"demo-{stamp}"
    results = train_both(arguments, out, console)
    console.print(curves_table(results))
    console.print(f"\n{EXPLANATION}\n{radius_sentence(results)}\n", highlight=False)
    status = show_parity()
    console.print(throughput_table())
    figure = out / "learning_curves.png"
    curves = {name: results[name]["rows"] for name in BACKENDS}
    title = f"{ENV_ID}, seed {arguments.seed}, float32 in both backends"
    figure.write_bytes(learning_curves_png(curves, title))
    if arguments.publish:
        shutil.copy(figure, COMMITTED / "training" / f"{ENV_ID}.png")
    console.print(
        f"figures: {figure}, {out}/jax/learning_curve.png, "
        f"{out}/torch/learning_curve.png\n"
        f"finished in {time.perf_counter() - start:.0f} s",
        highlight=False,
        soft_wrap=True,
    )
    return status


if __name__ == "__main__":
    run_command(main, Arguments)
