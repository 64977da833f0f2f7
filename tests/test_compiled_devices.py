"""Members on several devices: in a process of its own, as JAX counts them once."""

import os
import subprocess
import sys
from pathlib import Path


SCRIPT = """
import jax, numpy as np
from trpo_jax import compiled_run
from tests.test_compiled_command import small

configs = [small(seed=seed) for seed in range(4)]
def trained(configs):
    trainer = compiled_run.CompiledTrainer(configs, longest_chunk=2, episodes=2)
    return trainer, trainer.advance(2, evaluate=True)
together, many = trained(configs)
assert together.program.mesh.size == 2, together.program.mesh
for index in (0, 3):
    alone, one = trained([configs[index]])
    assert alone.program.mesh is None
    left, right = alone.get_state(), together.get_state(index)
    assert set(left) == set(right)
    for name, array in left.items():
        np.testing.assert_allclose(
            array, right[name], rtol=1e-4, atol=1e-5, err_msg=name
        )
    np.testing.assert_allclose(
        one.evaluations[0].returns, many.evaluations[index].returns, rtol=1e-4
    )
# Three members don't divide by two devices.
three = compiled_run.CompiledTrainer(configs[:3], longest_chunk=2, episodes=2)
assert three.program.mesh is None
print("equal")
"""


def test_members_on_two_devices_equal_themselves_alone():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2"},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("equal\n")
