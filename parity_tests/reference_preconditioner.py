"""The third implementation's preconditioners, each as its Cholesky factor L.

The backends apply (LL')^-1; here conjugate gradient runs on L^-1 A L^-T instead.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


Map = Callable[[np.ndarray], np.ndarray]


class Split(NamedTuple):
    """L v, L^-1 v and L^-T v of vectors [p]."""

    multiply: Map
    solve: Map
    solve_transposed: Map


IDENTITY = Split(*[lambda v: v] * 3)
