"""Ring B of the parity suite: a backend's float32 error over what rounding predicts."""

from typing import Any

import numpy as np

from benchmarks.speed.cell import Cell


# The case of the parity grid whose sizes are nearest to the benchmark's.
CASE = "cheetah"
QUANTITIES = {"policy": "update/policy", "value": "update/critic"}


def measure_ring_b(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Error over predicted spread of both backends' updates, at HalfCheetah's sizes.

    The truth is the suite's third implementation in float64; the prediction is its
    spread under simulated float32 rounding. About 1 is what float32 allows.

    Returns:
        `<backend>_policy` and `<backend>_value`; nothing where the float32 update took
        another decision than the reference.
    """
    del settings
    from parity_tests.common import process_setup as environment

    environment.prepare()
    from parity_tests.rings.evidence import gather

    evidence = gather(CASE, 0, cell.device, cell.precision)
    ratios = {}
    for backend in ("torch", "jax"):
        subject = evidence.results[backend, "float32"]
        for name, quantity in QUANTITIES.items():
            if evidence.comparable(quantity, subject):
                got = np.asarray(subject.values[quantity], np.float64)
                error = np.linalg.norm(got - evidence.reference.values[quantity])
                ratios[f"{backend}_{name}"] = float(error / evidence.spread(quantity))
    return ratios
