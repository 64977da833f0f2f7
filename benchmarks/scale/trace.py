"""All-reduces in JAX's compiled program of an update, a process of its own.

`python -m benchmarks.scale.trace SAMPLES MINIBATCH` prints how many there are.
"""

import os
import sys

import numpy as np


def main() -> None:
    """Compile the update of two virtual devices."""
    samples, minibatch = map(int, sys.argv[1:])
    import jax

    from benchmarks.scale.communication import in_compiled_text
    from benchmarks.scale.worker import EPOCHS, batch_of, make
    from trpo_jax.agent.update import update
    from trpo_jax.devices.mesh import on_mesh, place

    agent = make("jax", minibatch)
    agent.shard(devices=jax.local_devices()[:2])
    batch = agent._check_batch(batch_of(agent, samples))
    shards = agent.sharding.divide(samples)
    generator = np.random.default_rng(0)
    orders = np.stack([generator.permutation(samples) for _ in range(EPOCHS)])
    learned, batch, orders = place(
        agent.backend.mesh, agent.sharding, shards, agent.backend.state, batch, orders
    )
    lowered = on_mesh(update, agent.backend.mesh).lower(
        agent.backend.functions._replace(mesh=agent.backend.mesh),
        agent.config.step_options(),
        learned,
        batch,
        orders,
        agent.backend.in_dtype_of(agent.config.step_numbers()),
    )
    print(in_compiled_text(lowered.compile().as_text() or ""))


if __name__ == "__main__":
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
    main()
