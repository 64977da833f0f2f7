"""Rows of options in which each pair of values occurs, as few as a greedy choice finds.

Most faults of a program with many options show themselves with one value, or with two
together (Kuhn et al. 2004, "Software Fault Interactions and Implications for Software
Testing"); a row for each combination would take hours.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


Row = dict[str, Any]


def pairwise(
    options: Mapping[str, Sequence[Any]],
    allowed: Callable[[Row], bool] = lambda row: True,
) -> list[Row]:
    """Rows with each pair of values that an allowed row has at all.

    Each next row is the one with the most pairs that none has had, of equals the first:
    the same ones in each process.

    Args:
        options: Name -> values.
        allowed: Whether the values of a row can be together.
    """
    combinations = itertools.product(*(range(len(v)) for v in options.values()))
    candidates, codes = [], []
    for chosen in combinations:
        row = {
            name: values[i]
            for (name, values), i in zip(options.items(), chosen, strict=True)
        }
        if allowed(row):
            candidates.append(row)
            codes.append(chosen)
    numbers, most = np.array(codes), max(map(len, options.values()))
    columns = list(itertools.combinations(range(len(options)), 2))
    # [candidates, pairs of options] -> number of the pair of values.
    pairs = np.stack(
        [
            (column * most + numbers[:, a]) * most + numbers[:, b]
            for column, (a, b) in enumerate(columns)
        ],
        axis=1,
    )
    missing = np.zeros(len(columns) * most**2, dtype=bool)
    missing[pairs] = True
    rows = []
    while missing.any():
        best = int(missing[pairs].sum(1).argmax())
        rows.append(candidates[best])
        missing[pairs[best]] = False
    return rows


def covering(rows: Sequence[Row]) -> list[Row]:
    """Some of these rows, in which each value of any of them occurs; few, likewise."""
    missing = {item for row in rows for item in row.items()}
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(missing & set(row.items())))
        chosen.append(best)
        missing -= set(best.items())
    return chosen
