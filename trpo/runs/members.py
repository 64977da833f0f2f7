"""The members of a compiled run: seeds times the values of a sweep."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trpo.common.terminal import Terminal
from trpo.common.validation import assignments, require_count, shown
from trpo.config.agent import MEMBERS_OWN
from trpo.config.run import TrainConfig
from trpo.rollout.evaluation import EvaluationResult
from trpo.runs.directory import RunDirectory
from trpo.runs.learning_curves import learning_curves_png
from trpo.runs.metrics import METRICS, csv_lines, read_metrics


MOST_MEMBERS = 10_000


class NamedMember(NamedTuple):
    """One run of many.

    Attributes:
        name: of its directory, such as "target_kl=0.01,seed=3".
        config: of the run alone.
        values: what was swept -> this member's value.
    """

    name: str
    config: TrainConfig
    values: dict[str, float]


def parse_sweep(arguments: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Hyperparameter -> values, from arguments such as "target_kl=0.003,0.01".

    Raises:
        ValueError: a hyperparameter can't be swept, comes twice, or a value is no
            number.
    """
    sweep: dict[str, tuple[float, ...]] = {}
    advice = " Others change the compiled program: give each value a run of its own."
    for name, texts in assignments("sweep", arguments, MEMBERS_OWN, advice).items():
        try:
            sweep[name] = tuple(map(float, texts))
        except ValueError as error:
            raise ValueError(
                f"`sweep`: expected numbers of {name!r}, separated by commas, got "
                f"{','.join(texts)!r}."
            ) from error
        if len(set(sweep[name])) < len(sweep[name]):
            raise ValueError(
                f"`sweep`: expected distinct values of {name!r}, got {','.join(texts)}."
            )
    return sweep


def members_of(
    config: TrainConfig, num_seeds: int, sweep: Mapping[str, Sequence[float]]
) -> list[NamedMember]:
    """Each combination of the swept values, with each seed from the run's own up.

    Raises:
        ValueError: a count or a value is out of range.
    """
    require_count("num_seeds", num_seeds, maximum=MOST_MEMBERS)
    count = num_seeds * math.prod(map(len, sweep.values()))
    if count > MOST_MEMBERS:
        raise ValueError(
            f"`sweep`: expected at most {MOST_MEMBERS:,} members, got {count:,}."
        )
    require_one_program(config, sweep)
    members = []
    for values in itertools.product(*sweep.values()):
        chosen = dict(zip(sweep, values, strict=True))
        agent = dataclasses.replace(config.agent, **chosen)
        for seed in range(config.seed, config.seed + num_seeds):
            parts = [f"{name}={value:g}" for name, value in chosen.items()]
            members.append(
                NamedMember(
                    ",".join([*parts, f"seed={seed}"]),
                    dataclasses.replace(config, seed=seed, agent=agent),
                    chosen,
                )
            )
    if len({member.name for member in members}) < len(members):
        raise ValueError(
            "`sweep`: expected values that differ in their first six digits, by which "
            "members' directories are named."
        )
    return members


def require_one_program(
    config: TrainConfig, sweep: Mapping[str, Sequence[float]]
) -> None:
    """Raise ValueError, naming the field, unless all values make one program."""
    for name, values in sweep.items():
        agents = (dataclasses.replace(config.agent, **{name: v}) for v in values)
        if len({agent.step_options() for agent in agents}) > 1:
            raise ValueError(
                f"`{name}`: expected values that one program can take, all 0 or none, "
                f"got {shown(values)}. Give 0 a run of its own."
            )


TABLE = "members.csv"


def write_members(
    directory: RunDirectory,
    title: str,
    members: Sequence[NamedMember],
    steps: int,
    evaluations: Sequence[EvaluationResult],
) -> None:
    """Write `members.csv` and one figure of all members into the run's directory.

    Args:
        directory: Of the run, with one of each member in it.
        title: Of the figure.
        members: Of the run.
        steps: Environment steps that each has done.
        evaluations: Final one of each member; none if there was none.
    """
    rows = [
        {"member": member.name, "seed": member.config.seed, **member.values}
        | ({"steps": steps})
        for member in members
    ]
    for row, result in zip(rows, evaluations, strict=False):
        row |= {"return_mean": result.mean, "return_std": result.std}
        row |= {"episodes": len(result.returns)}
    directory.write(TABLE, csv_lines([[*rows[0]], *(row.values() for row in rows)]))
    curves = {
        member.name: read_metrics(directory.path / member.name / METRICS)
        for member in members
    }
    directory.write("learning_curves.png", learning_curves_png(curves, title))


# Members that are listed by name at each end of a longer ranking.
MOST_RANKED = 5


def ranked(evaluations: Sequence[EvaluationResult]) -> list[int]:
    """Indices of members, the best first."""
    means = [result.mean for result in evaluations]
    return sorted(range(len(means)), key=means.__getitem__, reverse=True)


def write_ranking(
    terminal: Terminal,
    members: Sequence[NamedMember],
    step: int,
    evaluations: Sequence[EvaluationResult],
) -> None:
    """Print the mean over all members, and each one's return, the best first.

    Args:
        terminal: Where to print.
        members: Of the run.
        step: Environment steps that each has done.
        evaluations: Final one of each member; nothing is printed of none.
    """
    if not evaluations:
        return
    means, order = [result.mean for result in evaluations], ranked(evaluations)
    terminal.say(
        f"evaluation of {len(order)} members at step {step:,}: return "
        f"{statistics.fmean(means):.2f} ± {statistics.pstdev(means):.2f} over members"
    )
    left_out = range(MOST_RANKED, len(order) - MOST_RANKED)
    for place, index in enumerate(order):
        if place in left_out:
            if place == left_out[0]:
                terminal.say(f"  … {len(left_out)} more: {TABLE}")
            continue
        result = evaluations[index]
        end = {0: " (best)", len(order) - 1: " (worst)"}.get(place, "")
        said = f"{result.mean:.2f} ± {result.std:.2f}{end}"
        terminal.say(f"  {place + 1:>4}. {members[index].name}: {said}")
