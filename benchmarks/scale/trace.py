"""All-reduces in JAX's program of an update, a process of its own.

`python -m benchmarks.scale.trace SAMPLES MINIBATCH ITERATIONS CANDIDATES`, those of
conjugate gradient and of the line search, prints JSON.
"""

import json
import os
import sys

import numpy as np


def main() -> None:
    """Trace and lower the sharded update for two virtual devices."""
    samples, minibatch, cg, candidates = map(int, sys.argv[1:])
    import jax

    from benchmarks.scale.communication import counted_of_jax, in_lowered_text
    from benchmarks.scale.worker import EPOCHS, batch_of, make
    from trpo_jax.sharded_update import place, sharded_update

    agent = make("jax", minibatch)
    agent.shard(devices=jax.local_devices()[:2])
    batch = agent._check_batch(batch_of(agent, samples))
    shards = agent.sharding.divide(samples)
    generator = np.random.default_rng(0)
    orders = np.stack([generator.permutation(samples) for _ in range(EPOCHS)])
    own = agent.sharding.minibatches(shards, orders, minibatch)
    static = (agent._functions, agent.config, agent._mesh)
    given = place(agent._mesh, agent.state, batch, shards, own)
    placed = (*given, agent.config.rates())
    traced = jax.make_jaxpr(sharded_update, static_argnums=(0, 1, 2))(*static, *placed)
    sums = counted_of_jax(traced.jaxpr, [cg, candidates])
    lowered = sharded_update.lower(*static, *placed)
    print(
        json.dumps(
            {
                "counts": sums.counts,
                "lowered": in_lowered_text(lowered.as_text() or ""),
                "compiled": in_lowered_text(lowered.compile().as_text() or ""),
            }
        )
    )


if __name__ == "__main__":
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
    main()
