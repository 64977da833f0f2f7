"""Tables and figures of the timing benchmarks, from the raw samples.

python -m benchmarks.report
"""

import dataclasses
import re
from pathlib import Path

import tyro

from benchmarks import report_figures as figures, report_tables as tables
from benchmarks.store import RESULTS, Store, store_path
from benchmarks.targets import Stores, all_targets


ROOT = Path(__file__).parents[1]
PAGE = """\
# Throughput

Written by `python -m benchmarks.report` from the raw samples beside it;
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

2,048 steps per iteration, the same hyperparameters for all, without normalisation.
Times are of one iteration. Acting is the rollout outside of the environments.

{training}

![Where the time goes](split.png)

`act` for 8 environments, NumPy in and out:

{acting}

## Scaling

{scaling}
"""


@dataclasses.dataclass
class Arguments:
    """Write tables and figures, and the parts of both READMEs between markers."""

    out: Path = RESULTS
    """Directory of the JSON; tables and figures go there too."""
    readmes: bool = True
    """Rewrite the marked parts of README.md and benchmarks/README.md."""


def open_stores(out: Path, device: str) -> Stores:
    """The samples of all benchmarks on a device; empty where not run."""
    return Stores(
        *(Store(store_path(out, name, device)) for name in Stores._fields)
    )  # fmt: skip


def write_page(out: Path, stores: Stores, gpu: str) -> None:
    """Write `throughput.md` and its figures."""
    targets = tables.targets_table(all_targets(stores))
    page = PAGE.format(
        machine=tables.machine(stores.update),
        gpu=gpu,
        targets=targets,
        fixed=tables.update_tables(stores.update, "fixed"),
        natural=tables.update_tables(stores.update, "natural"),
        fisher=tables.fisher_table(stores.update),
        training=tables.training_table(stores.training),
        acting=tables.acting_table(stores.training),
        scaling=tables.scaling_table(stores.scaling),
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "throughput.md").write_text(page)
    figures.throughput(stores.update, stores.scaling, out / "throughput.png")
    figures.roofline(stores.update, out / "roofline.png")
    figures.time_split(stores.update, stores.training, out / "split.png")


def replace_between(text: str, marker: str, inside: str) -> str:
    """`text` with what lies between a marker's begin and end comments replaced.

    Raises:
        ValueError: the markers are not there.
    """
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"expected the comments {begin} and {end}, found none.")
    return pattern.sub(lambda _: f"{begin}\n{inside}\n{end}", text)


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


def main(arguments: Arguments) -> None:
    """Write everything."""
    stores = open_stores(arguments.out, "cpu")
    write_page(arguments.out, stores, gpu_tables(arguments.out))
    if arguments.readmes:
        targets = tables.targets_table(all_targets(stores))
        parts = (
            (ROOT / "README.md", "throughput", tables.readme_table(stores)),
            (ROOT / "benchmarks" / "README.md", "targets", targets),
        )
        for path, marker, inside in parts:
            path.write_text(replace_between(path.read_text(), marker, inside))
    print(f"wrote {arguments.out / 'throughput.md'}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
