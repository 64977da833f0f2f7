"""`benchmarks/scale/README.md`, of the measurements and the cost model."""

import itertools
import json
import math
from pathlib import Path

from benchmarks.csv_files import read_csv
from benchmarks.scale.communication import AllReduces
from benchmarks.scale.model import (
    DEVICES,
    LINKS,
    Link,
    Load,
    communication_seconds,
    efficiency,
    samples_that_pay,
)


SAMPLES = 2048


def page(results: Path) -> str:
    """The page, from `time.csv` and `all_reduces.json`."""
    rows = read_csv(results / "time.csv")
    found = json.loads((results / "all_reduces.json").read_text())
    sums = AllReduces({int(size): times for size, times in found["counts"].items()})
    critic = {n: c for n, c in sums.counts.items() if c >= 40}
    parts = (
        _counted(sums, critic, found),
        _measured(rows, sums, found),
        _predicted(sums, critic, rows),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _counted(sums: AllReduces, critic: dict[int, int], found: dict) -> list[str]:
    share = sum(critic.values()) / sums.number
    table = [f"| {size:,} | {times} |" for size, times in sorted(sums.counts.items())]
    return [
        "# What an update costs on many devices",
        "",
        "Written by `python -m benchmarks.scale`; numbers in `results/scale/`.",
        "",
        "## All-reduces of one update",
        "",
        f"{SAMPLES:,} samples, 17 observations, 6 actions, networks 64-64, minibatches "
        "of 256, 10 epochs, 10 conjugate-gradient iterations, first candidate "
        "accepted. PyTorch's calls, counted as they are made.",
        "",
        "| numbers | times |",
        "|---|---|",
        *table,
        "",
        f"{sums.number} all-reduces of {sums.bytes() / 1e6:.2f} MB in all. The "
        f"critic's gradient steps are {100 * share:.0f} % of them: epochs times "
        "minibatches, where the policy has one gradient and a product for each "
        f"iteration. JAX's are XLA's: {found['compiled']} in the text of the program, "
        "where one in a loop counts once. **So with many devices raise "
        "`value_minibatch_size` with the batch**: the number of steps, not their size, "
        "is what costs.",
        "",
    ]


def _measured(rows: list[dict], sums: AllReduces, found: dict) -> list[str]:
    cores = found["cores"]
    lines = [
        "## Measured on this machine, and the model",
        "",
        f"Processes of one thread on loopback (gloo) that share {cores} cores. Each "
        "has threads that wait for messages beside the one that computes, and all "
        "wait for turns on a core: more processes gain nothing here. Predicted are "
        "the seconds of one process, divided by as many as compute at once, and "
        "each all-reduce at the mean time of its size in a loop of nothing else. "
        "What an update takes beyond that is waiting too: in the loop all are there "
        "when a message comes, in an update a core may be computing.",
        "",
        "| backend | processes | seconds | predicted | of that all-reduces | "
        "seconds over predicted | same bytes |",
        "|---|---|---|---|---|---|---|",
    ]
    alone = {row["backend"]: float(row["seconds"]) for row in reversed(rows)}
    for row in rows:
        backend, size = row["backend"], row["processes"]
        predicted = ("-", "-", "-")
        if measured := found["links"][backend].get(size):
            waits = sum(t * _alone(n, measured) for n, t in sums.counts.items())
            seconds = alone[backend] / min(int(size), cores) + waits
            factor = float(row["seconds"]) / seconds
            predicted = (f"{seconds:.4f}", f"{waits:.4f}", f"{factor:.2f}")
        cells = (backend, size, row["seconds"], *predicted, row["same bytes"])
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _alone(count: int, seconds: dict[str, float]) -> float:
    """Seconds of an all-reduce of so many numbers, between what was measured."""
    points = sorted((int(n), s) for n, s in seconds.items())
    for (low, before), (high, after) in itertools.pairwise(points):
        if count <= high:
            share = (count - low) / (high - low)
            return before + share * (after - before)
    return points[-1][1] * count / points[-1][0]


def _predicted(sums: AllReduces, critic: dict[int, int], rows: list[dict]) -> list[str]:
    one = next(
        float(row["seconds"])
        for row in rows
        if row["backend"] == "torch" and row["processes"] == "1"
    )
    lines = [
        "## Predicted for 1 to 1,024 GPUs",
        "",
        "t = t(1) / D + sum over all-reduces of the faster of a ring's "
        "2 (D - 1) (a + n / (D B)) and a tree's 2 log2(D) (a + n / B). A "
        "million samples with minibatches of an eighth of an epoch, which keeps the "
        "all-reduces those above; 0.25 s of computing on one GPU (assumed: 4 million "
        "samples a second). Links are of data sheets; nothing of this table was run.",
        "",
        f"| devices | {' | '.join(link.name for link in LINKS)} |",
        f"|---|{'---|' * len(LINKS)}",
    ]
    load = Load(1_000_000, 0.25, sums)
    for devices in DEVICES:
        cells = [f"{100 * efficiency(load, devices, link):.1f} %" for link in LINKS]
        lines.append(f"| {devices:,} | {' | '.join(cells)} |")
    lines += ["", *_what_dominates(load, sums), ""]
    small = Load(SAMPLES, one, sums)
    return [*lines, *_where_it_pays(load, small)]


def _what_dominates(load: Load, sums: AllReduces) -> list[str]:
    link = LINKS[1]
    spent = communication_seconds(sums, 64, link)
    waiting = communication_seconds(sums, 64, Link("", link.latency, math.inf))
    of_critic = AllReduces({n: t for n, t in sums.counts.items() if t >= 40})
    critic = communication_seconds(of_critic, 64, link)
    return [
        f"On 64 devices over {link.name.split(',')[0]} an update communicates for "
        f"{1e3 * spent:.0f} ms, {100 * waiting / spent:.0f} % of it latency, "
        f"{100 * critic / spent:.0f} % of it the critic's steps.",
    ]


def _where_it_pays(load: Load, small: Load) -> list[str]:
    lines = [
        "## From which batch it pays",
        "",
        "Samples at which half of the devices' time computes, by the same model.",
        "",
        f"| devices | {' | '.join(link.name for link in LINKS)} |",
        f"|---|{'---|' * len(LINKS)}",
    ]
    for devices in (2, 8, 64, 1024):
        cells = [f"{samples_that_pay(load, devices, link):,.0f}" for link in LINKS]
        lines.append(f"| {devices:,} | {' | '.join(cells)} |")
    return [
        *lines,
        "",
        f"An update of {small.samples:,} samples, which takes "
        f"{1e3 * small.seconds:.0f} ms on one core of this machine, is no work for "
        "many GPUs.",
    ]
