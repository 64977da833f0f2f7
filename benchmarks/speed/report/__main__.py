"""Tables and figures of the timing benchmarks, from the raw samples.

python -m benchmarks.speed.report
"""

import dataclasses
from pathlib import Path

from benchmarks import pages
from benchmarks.command import Output, run_command
from benchmarks.speed.report import figures, tables
from benchmarks.speed.report.targets import Stores, all_targets
from benchmarks.speed.store import RESULTS, Store, store_path


PAGE = """\
# Throughput

Written by `python -m benchmarks.speed.report` from the raw samples beside it;
[how it is measured](../../README.md).

{machine}

GPU: {gpu}.

## Targets

{targets}

## Update, the same work

All contestants start from the same weights and batch and spend 10 conjugate-gradient
iterations, one line-search candidate (asserted in each process) and 10 critic epochs of
256. `float32 error` is the distance of the new weights from the float64 result over
the length of the step; `ring B` is the parity suite's float32 error over what rounding
predicts, at HalfCheetah's sizes. sb3-contrib averages KL over action dimensions, which
makes its step another one; Tianshou's critic takes 10 steps on the whole batch, which
is less work.

![Throughput against batch size](throughput.png)

{fixed}

## Update, natural mode

Conjugate gradient stops where each library's own tolerance says.

{natural}

## Roofline

![Roofline](roofline.png)

Fisher products at 8,192 x 256-256:

{fisher}

## Training

2,048 steps per iteration, the same hyperparameters for all, without normalisation; PPO
spends as many samples and epochs. Acting is all that is neither stepping nor learning,
per step of all environments; stepping and learning are of one iteration. The ceiling is
an agent that acts in no time and learns as fast.

{training}

![Parts of the acting](training-profile.svg)

`trpo train HalfCheetah-v5`, its preset with normalisation, before and after:

{before}

![Where the time goes](split.png)

`act` for 8 environments, NumPy in and out:

{acting}

## Scaling

{scaling}
"""


@dataclasses.dataclass
class Arguments(Output):
    """Write tables and figures beside the samples; with --publish, both READMEs'."""


def open_stores(out: Path, device: str) -> Stores:
    """The samples of all benchmarks on a device; empty where not run."""
    return Stores(
        *(Store(store_path(out, name, device)) for name in Stores._fields)
    )  # fmt: skip


def page(out: Path) -> str:
    """The page of the samples in a directory."""
    stores = open_stores(out, "cpu")
    return PAGE.format(
        machine=tables.machine(stores.update),
        gpu=gpu_tables(out),
        targets=tables.targets_table(all_targets(stores)),
        fixed=tables.update_tables(stores.update, "fixed"),
        natural=tables.update_tables(stores.update, "natural"),
        fisher=tables.fisher_table(stores.update),
        training=tables.training_table(stores.training),
        before=tables.before_table(out / "training-before.csv"),
        acting=tables.acting_table(stores.training),
        scaling=tables.scaling_table(stores.scaling),
    )


def gpu_tables(out: Path) -> str:
    """Update tables of every other device that has samples; "not run" if none."""
    paths = sorted(out.glob("update-*.json"))
    devices = [path.stem.removeprefix("update-") for path in paths]
    parts = []
    for device in (name for name in devices if name != "cpu"):
        store = Store(store_path(out, "update", device))
        table = tables.update_tables(store, "fixed")
        parts.append(f"{device}\n\n{tables.machine(store)}\n\n{table}")
    return "\n\n".join(parts) or "not run"


def draw(out: Path) -> None:
    """The three figures of the samples in a directory."""
    stores = open_stores(out, "cpu")
    figures.throughput(stores.update, stores.scaling, out / "throughput.png")
    figures.roofline(stores.update, out / "roofline.png")
    figures.time_split(stores.update, stores.training, out / "split.png")
    figures.acting_profile(stores.training, out / "training-profile.svg")


def main(arguments: Arguments) -> None:
    """Write everything.

    Raises:
        ValueError: there is not one sample.
    """
    out = arguments.folder(RESULTS)
    if not any(out.glob("*-*.json")):
        raise ValueError(
            f"expected samples in {out}, found none. Take some (benchmarks/README.md), "
            "or give --publish for the tables of those in the repository."
        )
    draw(out)
    (out / "throughput.md").write_text(page(out))
    if arguments.publish:
        pages.write()
    print(f"wrote {out / 'throughput.md'}")


if __name__ == "__main__":
    run_command(main, Arguments)
