"""Which registered environments train, evaluate and resume, and what refuses the rest?

    python -m benchmarks.environments            # every id that Gymnasium registers
    python -m benchmarks.environments --package minigrid   # of a package, instead
    python -m benchmarks.environments --package ale_py --most 6   # of those, six

Each id has a process of its own, so that none can hold or end the others. An id is
trained for two updates, evaluated for an episode or 200 steps of one, saved in the
middle of its open episodes and restored; one more update must then end in the same
bytes.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Literal

import gymnasium

from benchmarks.command import Output, run_command
from benchmarks.csv_files import read_csv, write_csv
from trpo.environments.ids import package_of


COLUMNS: tuple[str, ...] = (
    "env_id", "trained", "evaluated", "resumed", "seconds", "said", "version",
)  # fmt: skip
SECONDS, STEPS, ENVIRONMENTS = 600.0, 24, 4
LONGEST = 200


@dataclasses.dataclass
class Arguments(Output):
    """Train, evaluate and resume every environment of Gymnasium, or of a package."""

    package: str = "gymnasium"
    """Module that registers the environments."""
    backend: Literal["torch", "jax"] = "torch"
    """Framework."""
    only: str | None = None
    """One id alone, in this process; prints its row as JSON."""
    ids: tuple[str, ...] = ()
    """Some ids; by default all that the package registers."""
    most: int | None = None
    """At most so many of those, spread evenly over all."""
    omit_observations: tuple[str, ...] = ()
    """As of `trpo train`."""


def ids_of(package: str) -> list[str]:
    """Ids that the package registers, in order."""
    before = set(gymnasium.registry)
    if package != "gymnasium":
        importlib.import_module(package)
    new = set(gymnasium.registry) - before
    top = package.partition(".")[0]
    return [
        name
        for name, spec in gymnasium.registry.items()
        if name in new or package_of(spec) == top
    ]


def _version(package: str) -> str:
    """Of the distribution that has the package, which may have another name."""
    top = package.partition(".")[0]
    owners = importlib.metadata.packages_distributions().get(top, [top])
    return importlib.metadata.version(owners[0])


def row_of(env_id: str, arguments: Arguments) -> dict[str, str]:
    """Train, evaluate and resume one environment; what was refused ends its row."""
    import time

    row, start = dict.fromkeys(COLUMNS, ""), time.perf_counter()
    row["env_id"] = env_id
    try:
        with warnings.catch_warnings(action="ignore"):
            _fill(row, arguments)
    except Exception as error:
        said = " ".join(str(error).split())
        row["said"] = f"{type(error).__name__}: {said}"
    row["seconds"] = f"{time.perf_counter() - start:.1f}"
    return row


def _fill(row: dict[str, str], arguments: Arguments) -> None:
    import numpy as np

    from trpo.config.presets import preset_config
    from trpo.environments.source import EnvironmentSource
    from trpo.rollout.evaluation import evaluate
    from trpo.training.trainer import Trainer

    env_id, package = row["env_id"], arguments.package
    config = preset_config(
        env_id if package == "gymnasium" else f"{package}:{env_id}",
        backend=arguments.backend, num_envs=ENVIRONMENTS, rollout_steps=STEPS,
        total_steps=3 * ENVIRONMENTS * STEPS, policy_layer_sizes=(8,),
        critic_layer_sizes=(8,), seed=1, omit_observations=arguments.omit_observations,
    )  # fmt: skip
    trainer = Trainer(config)
    trainer.train_once()
    trainer.train_once()
    row["trained"] = "yes"
    result = evaluate(
        trainer.agent, EnvironmentSource.of(config), episodes=1, max_steps=LONGEST
    )
    row["evaluated"] = f"{result.mean:.4g} in {int(result.lengths[0])} steps"
    state = trainer.get_state()
    resumed = Trainer(config)
    lost = resumed.set_state(state)
    for one in (trainer, resumed):
        one.train_once()
    after = resumed.get_state()
    equal = all(
        np.array_equal(array, after[name])
        for name, array in trainer.get_state().items()
    )
    row["resumed"] = "exactly" if equal and not lost else "not exactly"
    if lost:
        row["resumed"] += f": {len(lost)} of {ENVIRONMENTS} episodes began anew"


def _apart(env_id: str, arguments: Arguments) -> dict[str, str]:
    """Its row, from a process of its own."""
    command = [
        *(sys.executable, "-m", "benchmarks.environments", "--only", env_id),
        *("--package", arguments.package, "--backend", arguments.backend),
    ]
    if arguments.omit_observations:
        command += ["--omit-observations", *arguments.omit_observations]
    row = dict.fromkeys(COLUMNS, "") | {"env_id": env_id}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS
        )
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return row | {"said": f"no end within {SECONDS:g} s"}
    except (IndexError, ValueError):
        return row | {"said": "its process ended"}


def page(path: Path) -> str:
    """The table of a file of results, with how many there are of each kind."""
    rows = read_csv(path)
    trained = sum(bool(row["resumed"]) for row in rows)
    exactly = sum(row["resumed"] == "exactly" for row in rows)
    lines = [
        f"# Environments of {path.stem} {rows[0]['version']}",
        "",
        f"{trained} of {len(rows)} ids that were tried train, evaluate and resume, "
        f"{exactly} of them exactly, to the byte; the others are refused as said. "
        "Written by `python -m benchmarks.environments --publish`.",
        "",
        "| id | trained | evaluated | resumed | said |",
        "| --- | --- | --- | --- | --- |",
    ]
    names = ("env_id", "trained", "evaluated", "resumed", "said")
    cells = ([row[name].replace("|", "\\|") for name in names] for row in rows)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells), ""])


def main(arguments: Arguments) -> int:
    """Write PACKAGE.csv and PACKAGE.md; 1 if a process ended or held on."""
    if arguments.only is not None:
        if arguments.package != "gymnasium":
            importlib.import_module(arguments.package)
        print(json.dumps(row_of(arguments.only, arguments)))
        return 0
    out = arguments.folder("environments")
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{arguments.package}.csv"
    # Goes on where it stopped.
    done = {row["env_id"]: row for row in read_csv(path)}
    ids = arguments.ids or ids_of(arguments.package)
    for env_id in ids[:: -(-len(ids) // (arguments.most or len(ids)))]:
        if env_id in done and not arguments.ids:
            continue
        version = _version(arguments.package)
        done[env_id] = _apart(env_id, arguments) | {"version": version}
        print(*done[env_id].values(), sep=" | ", flush=True)
        cells = [[row.get(name) for name in COLUMNS] for row in done.values()]
        write_csv(path, COLUMNS, cells)
    rows = list(done.values())
    path.with_suffix(".md").write_text(page(path))
    bad = ("no end within", "its process ended")
    return int(any(row["said"].startswith(bad) for row in rows))


if __name__ == "__main__":
    run_command(main, Arguments)
