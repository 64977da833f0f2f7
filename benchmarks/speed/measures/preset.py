"""Times `trpo train HalfCheetah-v5` of the packages on PYTHONPATH.

See `benchmarks.speed.against`. Arguments: backend, seconds. Uses nothing of this
repository but the trainer and its presets, which an older one has as well; the
evaluations of a run are left out. Prints a line of JSON.
"""

import json
import sys
import time
from typing import Any

import trpo
from trpo.config.presets import preset_config
from trpo.training.trainer import Trainer


ENV_ID = "HalfCheetah-v5"
WARM_UP, LEAST = 2, 4


def main(backend: Any, seconds: str) -> None:
    """Time iterations of the preset."""
    config = preset_config(ENV_ID, backend=backend, device="cpu")
    trainer = Trainer(config)
    for _ in range(WARM_UP):
        trainer.train_once()
    start, count = time.perf_counter(), 0
    while count < LEAST or time.perf_counter() - start < float(seconds):
        trainer.train_once()
        count += 1
    speed = count * trainer.steps_per_update / (time.perf_counter() - start)
    trainer.close()
    print(json.dumps({"steps_per_second": speed, "file": trpo.__file__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
