"""The pages and tables that are written from result files, and from nothing else.

    python -m benchmarks.pages              # does each say what its files say?
    python -m benchmarks.pages --publish    # write those that do not
    python -m benchmarks.pages --figures    # draw the figures of these files anew

A part is a whole page, or what stands between `<!-- NAME:begin -->` and
`<!-- NAME:end -->`. `test_pages.py` requires that all are as written here.
"""

import csv
import dataclasses
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.command import COMMITTED, REPOSITORY, run_command
from benchmarks.csv_files import read_as, read_csv


class Part(NamedTuple):
    """A page, or a marked part of one.

    Attributes:
        path: the page.
        marker: name of the part; "" for the whole page.
        text: what it has to be.
    """

    path: Path
    marker: str
    text: Callable[[], str]

    def written(self) -> str:
        """The page with this part as it has to be.

        Raises:
            ValueError: the page has no such part.
        """
        if not self.marker:
            return self.text()
        return replace_between(self.path.read_text(), self.marker, self.text())


def parts() -> Iterator[Part]:
    """Every part that is written from files."""
    # Each imports what it needs; two of them import this.
    from benchmarks import environments, versions
    from benchmarks.audit import port, report as audit
    from benchmarks.audit.other_trpos import report as other_trpos
    from benchmarks.audit.pairs import report as pairs
    from benchmarks.faults import report as torture
    from benchmarks.learning import ablation, cost_limit, equivalence
    from benchmarks.learning.compiled import (
        prediction as compiled_prediction,
        report as compiled,
    )
    from benchmarks.learning.options import table as option_table
    from benchmarks.learning.training import report as study
    from benchmarks.scale import report as scale
    from benchmarks.speed import fisher_over_time, prediction
    from benchmarks.speed.report import __main__ as report, tables as report_tables
    from benchmarks.speed.report.targets import all_targets
    from parity_tests.certificate import run as certificate
    from parity_tests.mutation import run as mutation
    from trpo.cli import spaces_table as comparison

    throughput, learning = COMMITTED / "throughput", COMMITTED / "compiled"
    stores = report.open_stores(throughput, "cpu")
    studies = (COMMITTED / "training", COMMITTED / "spaces")
    docs, own = REPOSITORY / "docs", REPOSITORY / "benchmarks" / "README.md"
    tasks = ("cpu", compiled.TASKS)
    yield Part(docs / "spaces.md", "spaces", comparison.markdown)
    yield Part(
        docs / "compiled.md",
        "compiled",
        partial(compiled.readme_part, learning, *tasks),
    )
    yield Part(docs / "results.md", "training", partial(study.summary, studies))
    options = sorted((COMMITTED / "options").glob("*-times.csv"))
    stems = [path.with_name(path.stem.removesuffix("-times")) for path in options]
    told = lambda: "\n".join(map(option_table.told_apart, stems))
    yield Part(docs / "options.md", "options", told)
    tried = docs / "tried-and-left-out.md"
    yield Part(tried, "left-out", partial(option_table.left_out, stems))
    yield Part(
        docs / "results.md", "throughput", partial(report_tables.readme_table, stores)
    )
    targets = all_targets(stores)
    yield Part(own, "targets", partial(report_tables.targets_table, targets))
    yield Part(own, "against", partial(report_tables.against_table, throughput))
    for topic in ("first call", "stepping", "fisher"):
        tried = partial(report_tables.attempts_table, throughput, topic)
        yield Part(own, f"attempts-{topic.replace(' ', '-')}", tried)
    yield from _tables(own, "scale/vectors", "scale/vectors-attacked", "scale/busy")
    turns = fisher_over_time.read(throughput / f"{fisher_over_time.KIND}.csv")
    yield Part(own, "fisher", partial(fisher_over_time.summary, turns))
    yield Part(throughput / "throughput.md", "", partial(report.page, throughput))
    for name in prediction.GPUS:
        page = throughput / f"{name.lower()}.md"
        yield Part(page, "", partial(prediction.page, throughput, name))
    paper = partial(compiled_prediction.page, learning)
    yield Part(learning / "prediction.md", "", paper)
    yield Part(learning / "README.md", "", partial(compiled.page, learning, *tasks))
    for folder in studies:
        yield Part(folder / "README.md", "", partial(study.page, folder))
    for stem in stems:
        page = stem.with_name(f"{stem.name}.md")
        yield Part(page, "", partial(option_table.page, stem))
    yield from _pages(COMMITTED / "training" / "ablations", ablation.page)
    for page in ("training/tuning.md", "spaces/tuning.md"):
        for path in sorted((COMMITTED / page).with_suffix("").glob("*.csv")):
            marker = f"tuning-{path.stem}"
            yield Part(COMMITTED / page, marker, partial(_table, path))
    small = COMMITTED / "spaces" / "small"
    yield from _pages(COMMITTED / "environments", environments.page)
    yield Part(small / "README.md", "returns", partial(_small_table, small))
    folder = COMMITTED / "reliability"
    yield Part(folder / "README.md", "", partial(torture.page, folder))
    folder = COMMITTED / "versions"
    yield Part(folder / "versions.md", "", partial(versions.page, folder))
    folder = COMMITTED / "equivalence"
    yield Part(folder / "README.md", "", partial(equivalence.report, folder))
    folder = COMMITTED / "constrained"
    yield Part(folder / "cost_limit.md", "", partial(cost_limit.page, folder))
    folder = COMMITTED / "audit"
    yield Part(folder / "pairs.md", "", partial(pairs.page, folder))
    yield Part(folder / "noise_spreads.md", "", partial(audit.noise_page, folder))
    for name in audit.TITLES:
        yield Part(folder / f"{name}.md", "", partial(audit.page, name, folder))
    yield Part(folder / "other_trpos.md", "", partial(other_trpos.page, folder))
    yield Part(folder / "real_port.md", "", partial(port.page, folder))
    scaling = REPOSITORY / "benchmarks" / "scale" / "README.md"
    yield Part(scaling, "", partial(scale.page, COMMITTED / "scale"))
    folder = COMMITTED / "parity"
    yield Part(folder / "parity.md", "", partial(certificate.page, folder))
    yield Part(folder / "mutation.md", "", partial(mutation.page, mutation.RECORDED))


def figures() -> Iterator[tuple[Path, Callable[[], object]]]:
    """Every figure that is drawn from result files alone, and what draws it."""
    from benchmarks.learning import ablation, cost_limit
    from benchmarks.learning.compiled import report as compiled
    from benchmarks.learning.training import figures as study
    from benchmarks.speed import fisher_over_time
    from benchmarks.speed.report import __main__ as report
    from parity_tests.certificate import run as certificate

    for folder in (COMMITTED / "training", COMMITTED / "spaces"):
        yield folder / "learning_curves.png", partial(study.draw_curves, folder)
    for path in sorted((COMMITTED / "training" / "ablations").glob("*.csv")):
        yield path.with_suffix(".png"), partial(ablation.draw, path)
    folder = COMMITTED / "compiled"
    path = folder / "learning_curves.png"
    yield path, partial(compiled.draw, folder, compiled.TASKS)
    folder = COMMITTED / "constrained"
    rows = read_as(folder / "curves.csv", cost_limit.Row)
    path = folder / "cost_limit.png"
    yield path, partial(cost_limit.draw, rows, cost_limit.ENV_ID, path)
    folder = COMMITTED / "throughput"
    turns = fisher_over_time.read(folder / f"{fisher_over_time.KIND}.csv")
    path = folder / f"{fisher_over_time.KIND}.png"
    yield path, partial(fisher_over_time.draw, turns, path)
    yield folder / "throughput.png", partial(report.draw, folder)
    folder = COMMITTED / "parity"
    yield folder / "parity.png", partial(certificate.draw, folder)


def _pages(folder: Path, page: Callable[[Path], str]) -> Iterator[Part]:
    """A page beside each CSV of a folder."""
    for path in sorted(folder.glob("*.csv")):
        yield Part(path.with_name(f"{path.stem}.md"), "", partial(page, path))


def _tables(page: Path, *names: str) -> Iterator[Part]:
    """A part of a page for each of these CSV files."""
    for name in names:
        path = (COMMITTED / name).with_suffix(".csv")
        yield Part(page, path.stem, partial(_table, path))


def _table(path: Path) -> str:
    """A CSV as a Markdown table."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# Environment -> what it is of, and the best return.
SMALL = {
    "Echo": ("MultiDiscrete of unequal starts", 8),
    "Gallery": ("two images and numbers in a Dict", 4),
    "Pack": ("Dict and Tuple actions", 12),
    "Pointer": ("Dict observation", 4),
    "RecallLong": ("memory over 20 steps", 1),
    "Spot": ("image, 8 x 8", 4),
    "Switches": ("MultiBinary", 12),
    "TicTacToe": ("action masks; random opponent", 1),
}


def _small_table(folder: Path) -> str:
    """Returns of the seeds on small environments, of a folder's CSV files."""
    returns: dict[tuple[str, str, str], list[str]] = {}
    for kind in ("small", "memory"):
        for backend, name in (("jax", "JAX"), ("torch", "PyTorch")):
            for row in read_csv(folder / f"{kind}-{backend}.csv"):
                env = re.search(r"/(\w+)-v0", row["env_id"])
                memory = re.search(r"recurrent=(\w+)", row["setting"])
                kinds = {"gru": "GRU", "none": "feed-forward"}
                label = f", {kinds[memory[1]]}" if memory else ""
                assert env is not None
                key = (env[1], label, name)
                returns.setdefault(key, []).append(f"{float(row['return_mean']):.2f}")
    lines = [
        "| environment | space | backend | returns of the seeds | best possible |",
        "|---|---|---|---|---|",
    ]
    order = sorted(returns, key=lambda key: (key[0], key[1] != ", GRU", key[2]))
    for env, label, name in order:
        space, best = SMALL[env]
        seeds = ", ".join(returns[env, label, name])
        lines.append(f"| {env}{label} | {space} | {name} | {seeds} | {best} |")
    return "\n".join(lines)


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


def write() -> list[str]:
    """Write every part that differs from its files; what was written."""
    changed = []
    for part in parts():
        text = part.written()
        if not part.path.exists() or text != part.path.read_text():
            part.path.write_text(text)
            changed.append(name_of(part))
    return changed


def name_of(part: Part) -> str:
    """What a part is called."""
    name = str(part.path.relative_to(REPOSITORY))
    return f"{name}, {part.marker}" if part.marker else name


@dataclasses.dataclass
class Arguments:
    """Compare the pages with their files."""

    publish: bool = False
    """Write those that differ."""
    figures: bool = False
    """Draw the figures anew."""


def main(arguments: Arguments) -> int:
    """Print what differs, or what was written; 1 where something differs."""
    if arguments.figures:
        for path, draw in figures():
            draw()
            print(f"drew {path.relative_to(REPOSITORY)}")
        return 0
    if arguments.publish:
        print(*(f"wrote {name}" for name in write()), sep="\n")
        return 0
    differing = [
        name_of(part) for part in parts() if part.written() != part.path.read_text()
    ]
    print(*(f"differs: {name}" for name in differing), sep="\n")
    return int(bool(differing))


if __name__ == "__main__":
    run_command(main, Arguments)
