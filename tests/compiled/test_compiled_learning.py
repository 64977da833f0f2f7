"""Compiled training learns, on each seed of a small study.

`python -m benchmarks.learning.compiled` is the whole one.
"""

import pytest

from trpo.config.presets import preset_config
from trpo.runs.compiled import train_compiled_run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "steps", "least"),
    [("phys2d/Pendulum-v0", 100_000, -250.0), ("phys2d/CartPole-v1", 40_000, 475.0)],
)
def test_compiled_training_learns_on_each_seed(tmp_path, env_id, steps, least):
    config = preset_config(env_id, total_steps=steps, seed=50)
    results = train_compiled_run(config, tmp_path / "run", num_seeds=2)
    assert len(results) == 2
    assert min(result.mean for result in results) >= least
