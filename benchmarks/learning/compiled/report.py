"""The page, table and figure of compiled training, from the files beside them."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.csv_files import read_csv
from benchmarks.learning.training.figures import thousands
from benchmarks.speed.cell import SUBJECTS, Cell
from benchmarks.speed.report.tables import machine, table
from benchmarks.speed.samples import ratio, summarize
from benchmarks.speed.store import Store, store_path


ONE, MANY, PEER, HOST = "compiled", "compiled-16", "sb3-contrib", "jax"
RESULTS = "compiled"
PREDICTION = "prediction"


class Task(NamedTuple):
    """An environment to learn, and the least evaluation of every seed.

    Attributes:
        env_id: Gymnasium id.
        target: that evaluation.
        num_envs: environments stepped together; 0: the preset's, as for what follows.
        rollout_steps: steps of each per update.
    """

    env_id: str
    target: float
    num_envs: int = 0
    rollout_steps: int = 0

    @property
    def title(self) -> str:
        """What tables and figures call it."""
        many = f", {self.num_envs:,} environments" if self.num_envs else ""
        return f"{self.env_id}{many}"

    @property
    def stem(self) -> str:
        """What its files are called."""
        many = f"-{self.num_envs}-environments" if self.num_envs else ""
        return f"{self.env_id.replace('/', '-')}{many}"

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from the preset."""
        chosen = {"num_envs": self.num_envs, "rollout_steps": self.rollout_steps}
        return {name: value for name, value in chosen.items() if value}


TASKS = (
    Task("phys2d/Pendulum-v0", -200.0),
    Task("phys2d/CartPole-v1", 500.0),
    Task("phys2d/Pendulum-v0", -200.0, num_envs=2048, rollout_steps=4),
)


def page(out: Path, device: str, tasks: Sequence[Task]) -> str:
    """The page of what is in `out`.

    Args:
        out: Directory of the results.
        device: Whose timings.
        tasks: What was learned.
    """
    learned = [task for task in tasks if _scores(out, task)]
    parts = [
        "# Compiled training",
        "",
        "The whole loop in one JAX program, on Gymnasium's functional environments. "
        "Written by `python -m benchmarks.learning.compiled`, and with `--speed "
        "--peers`.",
        "",
        "## Learning",
        "",
        _learning(out, tasks),
        "",
    ]
    if learned:
        parts += ["![Learning curves](learning_curves.png)", ""]
    parts += ["## Speed", "", _speed(out, device), ""]
    prediction = out / f"{PREDICTION}.md"
    parts += ["## One H100 or H200, predicted", ""]
    parts += [prediction.read_text().strip() if prediction.exists() else "not run", ""]
    return "\n".join(parts)


def write(out: Path, device: str, tasks: Sequence[Task]) -> str:
    """Write README.md and learning_curves.png of what is in `out`; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    if learned := [task for task in tasks if _scores(out, task)]:
        draw(out, learned)
    text = page(out, device, tasks)
    (out / "README.md").write_text(text)
    return text


def readme_part(out: Path, device: str, tasks: Sequence[Task]) -> str:
    """What the project's README shows: scores, and the speed in two sentences."""
    path = store_path(out, "speed", device)
    claims = "Speed: not run."
    if path.exists():
        store = Store(path)
        found = {cell.subject: cell for cell in store.cells()}
        rates = [
            f"{SUBJECTS[name]} {_rate(store, found[name])}"
            for name in (ONE, MANY, PEER)
            if name in found and store.good(found[name])
        ]
        threads = store.about["fingerprint"]["threads"]
        load = summarize([sample["load"] for sample in store.samples]).median
        claims = (
            f"Environment steps/s, {threads} thread(s) each, load average {load:.1f}: "
            f"{', '.join(rates)}.\n\n{_claims(store, found)}\n{_busy(store)}"
        )
    return f"{_learning(out, tasks)}\n\n{claims}"


def _file(out: Path, task: Task, kind: str = "") -> Path:
    return out / f"{task.stem}{kind}.csv"


def _scores(out: Path, task: Task) -> list[dict[str, Any]]:
    return [row for row in read_csv(_file(out, task)) if row.get("return_mean")]


def _learning(out: Path, tasks: Sequence[Task]) -> str:
    body = []
    for task in tasks:
        rows = _scores(out, task)
        if not rows:
            body.append([task.title, "not run", *["–"] * 5])
            continue
        means = [float(row["return_mean"]) for row in rows]
        reached = sum(mean >= task.target for mean in means)
        body.append(
            [
                task.title,
                f"{int(rows[0]['steps']):,}",
                str(len(rows)),
                f"{statistics.fmean(means):.1f} ± {statistics.pstdev(means):.1f}",
                f"{min(means):.1f}",
                f"{task.target:g}",
                f"{reached} of {len(means)}",
            ]
        )
    header = (
        "environment", "steps", "seeds", "mean ± std over seeds", "worst seed",
        "target", "reached by",
    )  # fmt: skip
    return (
        f"{table(header, body)}\n\nFinal policy, deterministic, 20 episodes a seed, "
        "raw returns; all seeds of an environment trained at once."
    )


def _speed(out: Path, device: str) -> str:
    path = store_path(out, "speed", device)
    if not path.exists():
        return "not run"
    store = Store(path)
    found = {cell.subject: cell for cell in store.cells()}
    body = []
    for subject in (ONE, MANY, HOST, PEER):
        samples = store.good(found[subject]) if subject in found else []
        if not samples:
            why = store.why_not(found[subject]) if subject in found else ""
            body.append([SUBJECTS[subject], why or "not run", "–", "–", "–"])
            continue
        speed = summarize([s["steps_per_second"] for s in samples])
        compiling = [s["compile"] for s in samples if "compile" in s]
        cell = found[subject]
        body.append(
            [
                SUBJECTS[subject] + (" (host's loop)" if subject == HOST else ""),
                f"{cell.env_id}, {cell.num_envs}",
                f"{speed.median:,.0f} ± {speed.spread / 2:,.0f}",
                f"{max(compiling):.1f}" if compiling else "–",
                str(speed.count),
            ]
        )
    header = ("who", "environment, number", "steps/s", "compiling, s", "processes")
    return (
        f"{table(header, body)}\n\nSteps per second over all members; 2,048 steps an "
        "iteration, 64-64 networks, 10 critic epochs, no normalisation, in turns, a "
        "process each; median ± half the quartiles' distance. Compiling is apart, "
        "the longest of the processes; the others had a warm cache.\n\n"
        f"{_claims(store, found)}\n{_busy(store)}\n{machine(store)}"
    )


def _busy(store: Store) -> str:
    """A warning where other processes took their share of the cores meanwhile."""
    load = summarize([sample["load"] for sample in store.samples]).median
    about = store.about["fingerprint"]
    if load <= about["cores"]:
        return ""
    return (
        f"\n**Other processes ran meanwhile (load average {load:.1f} on "
        f"{about['cores']} cores)**: take the ratios as rough, and those of two cores "
        "as not run where each process had one thread.\n"
    )


def _rate(store: Store, cell: Cell) -> str:
    """Median steps per second of a cell."""
    speeds = [s["steps_per_second"] for s in store.good(cell)]
    return f"{summarize(speeds).median:,.0f}"


def _claims(store: Store, found: dict[str, Cell]) -> str:
    """Both targets, reached or not."""
    claims = [
        _claim(store, found, ONE, PEER, 12.0),
        _claim(store, found, MANY, ONE, 1.2),
    ]
    return "\n".join(claim for claim in claims if claim)


def _claim(
    store: Store, found: dict[str, Cell], fast: str, slow: str, target: float
) -> str:
    """How many times as many steps, with an interval, beside the target."""
    if not {fast, slow} <= set(found):
        return ""
    samples = [
        {s["round"]: 1.0 / s["steps_per_second"] for s in store.good(found[name])}
        for name in (slow, fast)
    ]
    rounds = sorted(set(samples[0]) & set(samples[1]))
    if not rounds:
        return ""
    slower, faster = ([of[number] for number in rounds] for of in samples)
    measured = ratio(slower, faster)
    reached = "reached" if measured.low >= target else "not reached"
    return (
        f"- {SUBJECTS[fast]}: {measured.value:.2f}x the steps/s of {SUBJECTS[slow]} "
        f"(95 % {measured.low:.2f} to {measured.high:.2f}, {measured.count} rounds); "
        f"target {target:g}x: {reached}"
    )


def draw(out: Path, tasks: Sequence[Task]) -> None:
    """Learning curves of every seed, one task below the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6 * len(tasks) + 0.3), layout="constrained")
    for axes, task in zip(
        figure.subplots(len(tasks), 1, squeeze=False)[:, 0], tasks, strict=True
    ):
        curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in read_csv(_file(out, task, "-curves")):
            point = (float(row["step"]), float(row["episode_return"]))
            curves[row["member"]].append(point)
        for points in curves.values():
            axes.plot(*zip(*points, strict=True), lw=1.0, alpha=0.5, color="tab:blue")
        axes.axhline(task.target, color="black", linestyle=":", linewidth=1.0)
        axes.set_title(f"{task.title}, {len(curves)} seeds", fontsize=10)
        axes.xaxis.set_major_formatter(thousands)
        axes.grid(alpha=0.3)
    figure.supxlabel("environment steps", fontsize=10)
    figure.supylabel(
        "episode return, mean of last 100; dotted: least to be reached", fontsize=10
    )
    figure.savefig(out / "learning_curves.png", dpi=120)
