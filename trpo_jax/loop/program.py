"""The whole training loop as one compiled program, for one run or many at once.

PureJaxRL (Lu et al. 2022, "Discovered Policy Optimisation") showed what that gains.
PyTorch runs its loop from the host, so that backend has no such file.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec as P

from trpo.config.agent import StepNumbers
from trpo.config.run import TRPOConfig
from trpo_jax.loop import rollout as rollouts
from trpo_jax.loop.iteration import (
    IterationMetrics,
    LoopState,
    Program,
    iterate,
)
from trpo_jax.loop.two_devices import on_two_devices, zeros_of


MEMBERS = "members"
"""Name of the members' axis in a mesh of devices."""
PARTS = "parts"
"""Name of the axis of two devices that divide the updates of one run."""
# Measured on two cores: 64-64 units gain 1.6 times with 2,048 samples, 1.3 with 8,192;
# 256-256 gain nothing.
SAMPLES_IN_PARTS, UNITS_IN_PARTS = 2**13, 64


def members_mesh(device: Any, count: int) -> Mesh | None:
    """Devices of this one's platform that `count` members are spread over evenly.

    None if there is but one device, or one member. On a CPU, JAX has as many devices
    as `JAX_NUM_CPU_DEVICES` says, and a core's worth of work for each.
    """
    devices = jax.devices(device.platform)
    number = max(n for n in range(1, len(devices) + 1) if count % n == 0)
    return Mesh(devices[:number], (MEMBERS,)) if number > 1 else None


def parts_mesh(device: Any, config: TRPOConfig, samples: int) -> Mesh | None:
    """Two devices that divide the updates of one run.

    Only of a CPU that has more devices than one, and for updates whose products are too
    small to be divided over its cores: there a second core is of no other use.

    Args:
        device: The run's.
        config: Of its agent.
        samples: Of an update.
    """
    devices = jax.devices(device.platform)
    widest = max(*config.policy_layer_sizes, *config.critic_layer_sizes)
    small = samples <= SAMPLES_IN_PARTS and widest <= UNITS_IN_PARTS
    if device.platform != "cpu" or len(devices) < 2 or not small:
        return None
    return Mesh(devices[:2], (PARTS,))


def mesh_of(device: Any, count: int, config: TRPOConfig, samples: int) -> Mesh | None:
    """Devices that members are spread over, or that divide the only one's updates."""
    if count > 1:
        return members_mesh(device, count)
    return parts_mesh(device, config, samples)


class Member(NamedTuple):
    """Constants of one run of many; with a leading axis, of all of them.

    Attributes:
        key: [2] random words (uint32) that its noise is drawn from.
        evaluation_seeds: [episodes] seeds (uint32) of its evaluation.
    """

    key: Any
    evaluation_seeds: Any


@functools.partial(jax.jit, static_argnums=0)
def run_chunk(
    program: Program,
    members: Member,
    state: LoopState,
    numbers: StepNumbers,
    iterations: jax.Array,
    evaluate: jax.Array,
) -> tuple[LoopState, IterationMetrics, tuple[jax.Array, jax.Array]]:
    """Several iterations and an evaluation, compiled whole, once for all chunks.

    Args:
        program: What is compiled for.
        members: One run's, or with a leading axis [M] those of M runs.
        state: Likewise.
        numbers: [chunk] or [chunk, M] of each update; the chunk's length is the most
            iterations it can run.
        iterations: [] how many to run; an array, so that a shorter last chunk, or one
            that ends where a checkpoint is due, compiles nothing anew.
        evaluate: [] whether to play the evaluation's episodes afterwards.

    Returns:
        The state after it; the metrics, [chunk, …] or [chunk, M, …], zero beyond
        `iterations`; and the evaluation's returns and lengths, [episodes] or
        [M, episodes], zero if there was none.
    """
    if program.mesh is None:
        return _chunk(program, members, state, numbers, iterations, evaluate)
    if program.mesh.axis_names == (PARTS,):
        return _in_parts(program, members, state, numbers, iterations, evaluate)
    of_members, of_updates, same = P(MEMBERS), P(None, MEMBERS), P()
    # Members never wait for each other: nothing is exchanged between devices.
    return jax.shard_map(
        functools.partial(_chunk, program),
        mesh=program.mesh,
        in_specs=(of_members, of_members, of_updates, same, same),
        out_specs=(of_members, of_updates, of_members),
        check_vma=False,
    )(members, state, numbers, iterations, evaluate)


def _in_parts(program: Program, *arguments: Any) -> Any:
    """`run_chunk` of one run on two devices, which divide its updates."""
    assert program.mesh is not None
    program = program._replace(both=functools.partial(on_two_devices, PARTS))
    return jax.shard_map(
        functools.partial(_chunk, program),
        mesh=program.mesh, in_specs=P(), out_specs=P(), check_vma=False,
    )(*arguments)  # fmt: skip


def _chunk(
    program: Program,
    members: Member,
    state: LoopState,
    numbers: StepNumbers,
    iterations: jax.Array,
    evaluate: jax.Array,
) -> tuple[LoopState, IterationMetrics, tuple[jax.Array, jax.Array]]:
    """`run_chunk` of the members that are on one device."""
    policy = program.policy

    def one(state: LoopState, member: Member, numbers: StepNumbers) -> tuple:
        noise = rollouts.draw_noise(
            member.key,
            state.update,
            head=policy.functions.head,
            shape=(program.rollout_steps, program.num_envs),
            epochs=program.options.value_epochs,
            dtype=policy.dtype,
        )
        iterated = iterate(program, numbers, state, noise)
        return iterated.state, iterated.metrics

    def score(state: LoopState, member: Member) -> tuple[jax.Array, jax.Array]:
        return rollouts.play(
            policy, state.learner, state.observation_moments, member.evaluation_seeds
        )

    if members.key.ndim == 2:
        one, score = (_over_members(f, program.members_at_once) for f in (one, score))
    nothing = jax.eval_shape(one, state, members, jax.tree.map(lambda x: x[0], numbers))

    def body(state: LoopState, at: tuple) -> tuple[LoopState, IterationMetrics]:
        index, now = at
        # Outside of the members' axis, where `cond` computes one branch alone.
        return jax.lax.cond(
            index < iterations,
            lambda: one(state, members, now),
            lambda: (state, zeros_of(nothing[1])),
        )

    indices = jnp.arange(numbers.target_kl.shape[0])
    state, metrics = jax.lax.scan(body, state, (indices, numbers))
    scores = jax.lax.cond(
        evaluate,
        lambda: score(state, members),
        lambda: zeros_of(jax.eval_shape(score, state, members)),
    )
    return state, metrics, scores


def _over_members(function: Any, at_once: int) -> Any:
    """`function` over the members' axis, `at_once` of them together by `vmap`.

    A `while_loop` under `vmap` runs to its slowest member's end; the others keep what
    they had, so that conjugate gradient and line search stay what they are alone.
    """

    def mapped(*arguments: Any) -> Any:
        size = jax.tree.leaves(arguments)[0].shape[0]
        if 1 < size <= at_once:
            return jax.vmap(function)(*arguments)
        return jax.lax.map(
            lambda a: function(*a),
            arguments,
            batch_size=at_once if at_once > 1 else None,
        )

    return mapped
