"""What a process has set for its own code: an agent is as without it, and leaves it."""

import contextlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import torch

from tests.support.agents import (
    BACKENDS,
    as_array,
    fingerprint,
    make_agent,
    make_batch,
    native,
)
from tests.support.device_agents import KINDS, batch_of, make, observations
from trpo.data.report import StepStatus
from trpo_torch.devices.device import matmul_precision


@contextlib.contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def unchecked():
    """Without checks of annotations, which the package's users don't have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def updated_config(name, value):
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


TORCH = {
    "meta by default": lambda: default_device("meta"),
    "cpu by default": lambda: default_device("cpu"),
    "in a block of meta": lambda: torch.device("meta"),
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
}
JAX = {
    "ranks not promoted": lambda: jax.numpy_rank_promotion("raise"),
    "types not promoted": lambda: jax.numpy_dtype_promotion("strict"),
    "NaN is an error": lambda: jax.debug_nans(True),
    "64 bits later": lambda: updated_config("jax_enable_x64", True),
    "64 bits in a block": lambda: jax.enable_x64(True),
}
SETTINGS = [
    *(("torch", name, block) for name, block in TORCH.items()),
    *(("jax", name, block) for name, block in JAX.items()),
]
SOME = [k for k in KINDS if k.name in ("normalized", "image", "lstm", "limit")]


def of_process():
    """What the process has set, as its own code sees it."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_float32_matmul_precision(),
        jax.config.values,
    )


def life(agent, kind):
    """Everything that an agent reports, with native arrays too."""
    obs = observations(agent, 6)
    said = [as_array(part).tobytes() for part in agent.act(obs)[:3]]
    batch = batch_of(agent, kind)
    agent.observe(batch["obs"].reshape(-1, agent.obs_dim))
    said.append(agent.update(batch))
    said.append(as_array(agent.value(native(agent.framework, obs))).tobytes())
    return said, fingerprint(agent)


@pytest.mark.parametrize(("backend", "name", "block"), SETTINGS,
                         ids=[name for _, name, _ in SETTINGS])  # fmt: skip
def test_an_agent_is_as_without_it_and_leaves_it(backend, name, block):
    for kind in SOME if name == "meta by default" else SOME[:1]:
        expected = life(make(kind, backend, "cpu"), kind)
        later = make(kind, backend, "cpu")
        with block():
            before = of_process()
            assert life(later, kind) == expected
            if "64" not in name or backend == "torch":
                assert life(make(kind, backend, "cpu"), kind) == expected
            assert of_process() == before


@pytest.mark.parametrize(
    "block",
    [lambda: jax.transfer_guard("disallow"),
     lambda: updated_config("jax_transfer_guard", "disallow")],
)  # fmt: skip
def test_a_guard_of_transfers_is_for_the_programs_own(block):
    kind = SOME[0]
    plain, guarded = make(kind, "jax", "cpu"), make(kind, "jax", "cpu")
    batch = batch_of(make(kind, "jax", "cpu"), kind)
    with block():
        before = of_process()
        made = make(kind, "jax", "cpu")
        batch_of(made, kind)
        found = guarded.act(batch["obs"])[0], guarded.update(batch)
        assert of_process() == before
    plain.act(batch["obs"])
    assert found[1] == plain.update(batch)
    assert fingerprint(guarded) == fingerprint(plain)


def test_tensors_of_inference_mode_can_be_learned_from():
    agent, plain = make_agent("torch"), make_agent("torch")
    with torch.inference_mode():
        obs = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
        action, log_prob, value = agent.act(obs)
        batch = {"obs": obs, "actions": action.clone(), "log_probs": log_prob.clone()}
        batch |= {"returns": value.clone(), "advantages": obs[:, 0] - obs[:, 0].mean()}
        inside = agent.update(batch)
    plain.act(obs)
    arrays = {name: tensor.clone() for name, tensor in batch.items()}
    assert plain.update(arrays) == inside
    assert agent.update(batch)["policy/status"] == StepStatus.ACCEPTED


@pytest.mark.parametrize("kind", SOME, ids=lambda kind: kind.name)
def test_making_an_agent_leaves_torch_s_generator_alone(kind):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    agent = make(kind, "torch", "cpu")
    agent.update(batch_of(agent, kind))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_compilation_an_agent_still_learns():
    kind, few = KINDS[0], {"cg_iters": 2, "value_epochs": 1, "value_minibatch_size": 0}
    agent, compiled = (make(kind, "jax", "cpu", **few) for _ in "ab")
    batch = batch_of(agent, kind)
    expected = compiled.update(batch)
    with jax.disable_jit(), unchecked():
        metrics = agent.update(batch)
    for name in ("policy/kl", "policy/improvement", "loss/value"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-3)


def test_an_agent_of_64_bits_stays_one():
    # In a block, as the process may turn it on for itself and off again.
    kind = KINDS[0]
    with jax.enable_x64(True):
        agent = make(kind, "jax", "cpu", dtype="float64")
    batch = batch_of(agent, kind)
    assert agent.update(batch)["policy/status"] == StepStatus.ACCEPTED
    floats = {a.dtype.name for n, a in agent.get_state().items() if "random" not in n}
    assert floats == {"float64", "int64"}
    assert jnp.zeros(1).dtype == jnp.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_share_an_agent_without_sharing_noise(backend):
    agent, alone = make_agent(backend), make_agent(backend)
    obs, batch = np.zeros((1, 3)), make_batch(make_agent(backend))
    expected = {alone.act(obs)[0].tobytes() for _ in range(200)}
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(agent.act, [obs] * 200))
            list(threads.map(agent.update, [batch] * 3))
    finally:
        sys.setswitchinterval(switch)
    assert {action.tobytes() for action, _, _ in answers} == expected
    assert len(expected) == 200
    for _ in range(3):
        alone.update(batch)
    assert fingerprint(agent) == fingerprint(alone)


def test_agents_of_two_precisions_in_two_threads_leave_the_process_s():
    """Each computes in its own, and the process's comes back at the end."""
    inside = threading.Event()
    order = []

    def hold():
        with matmul_precision("tf32"):
            inside.set()
            order.append(torch.get_float32_matmul_precision())
            waiting.wait(0.2)
            order.append(torch.get_float32_matmul_precision())

    waiting = threading.Event()
    before = torch.get_float32_matmul_precision()
    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    with matmul_precision("float32"):
        order.append(torch.get_float32_matmul_precision())
        # Nested in one thread, it can't wait for itself.
        with matmul_precision("bfloat16"):
            order.append(torch.get_float32_matmul_precision())
        order.append(torch.get_float32_matmul_precision())
    thread.join()
    assert order == ["high", "high", "highest", "medium", "highest"]
    assert torch.get_float32_matmul_precision() == before
    first, second = (
        make_agent("torch", matmul_precision=p) for p in ("tf32", "float32")
    )
    batch = make_batch(second)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda agent: agent.update(batch), [first, second] * 3))
    assert torch.get_float32_matmul_precision() == before


MISSING = """
from trpo.cli import doctor
for _ in "ab":
    found = [f for f in doctor.diagnose() if f.subject == "jax devices"]
    print(found[0].level, found[0].facts, found[0].advice)
from trpo_jax import TRPOAgent
for device in ("cpu", "cuda", "auto"):
    try:
        TRPOAgent(3, 1, -1.0, 1.0, device, (4,), (4,))
    except ValueError as error:
        print(error)
"""


def test_a_platform_that_is_not_there_is_a_sentence():
    done = subprocess.run(
        [sys.executable, "-c", MISSING], env={**os.environ, "JAX_PLATFORMS": "cuda"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    *doctor, cpu, cuda, auto = done.stdout.strip().splitlines()
    for line in doctor:
        assert line.startswith("problem none, with JAX_PLATFORMS=cuda: ")
        assert "Unset JAX_PLATFORMS" in line
    for line in (cpu, cuda, auto):
        assert line.startswith("`device`: expected one that JAX")
        assert "JAX_PLATFORMS=cuda asks for others: unset it" in line


@pytest.mark.parametrize("away", [1e4, 1e6])
@pytest.mark.parametrize("kind", ["plain", "limit"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_improvement_that_overflows_is_not_accepted(backend, kind, away):
    kind = next(k for k in KINDS if k.name == kind)
    agent = make(kind, backend, "cpu")
    batch, before = batch_of(agent, kind), agent.get_state()
    means = agent.act(batch["obs"], deterministic=True)[0]
    # So many standard deviations away that a ratio of densities overflows.
    batch["actions"] = means + np.float32(away)
    log_probs = -0.5 * away**2 - 0.5 * np.log(2 * np.pi)
    batch["log_probs"] = np.full((40, 1), 2 * log_probs, np.float32)
    batch |= {"cost_excess": -1.0} if kind.name == "limit" else {}
    metrics = agent.update(batch)
    assert np.isfinite(list(metrics.values())).all()
    if metrics["policy/status"] != StepStatus.ACCEPTED:
        after = agent.get_state()
        policy = [name for name in before if name.startswith("policy.")]
        assert all((after[name] == before[name]).all() for name in policy)
        assert metrics["policy/improvement"] == 0.0


TRANSFORMED = {
    "jit": lambda f, x: jax.jit(f)(x),
    "vmap": lambda f, x: jax.vmap(lambda row: f(row[None]))(x),
    "grad": lambda f, x: jax.grad(lambda rows: f(rows).sum())(x),
    "scan": lambda f, x: jax.lax.scan(lambda c, row: (c, f(row[None])), 0, x),
    "shape": jax.eval_shape,
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_tracers_of_jax_are_refused(name):
    agent = make_agent("jax")
    batch = {n: jnp.asarray(a) for n, a in make_batch(agent).items()}
    before = fingerprint(agent)
    calls = {
        "act": lambda obs: agent.act(obs)[0],
        "value": agent.value,
        "constant": lambda obs: jnp.asarray(agent.act(np.zeros((1, 3)))[0]) + obs.sum(),
        "update": lambda obs: agent.update(batch | {"obs": obs}),
        "normalised": lambda obs: normalised.act(obs)[0],
    }
    normalised = make_agent("jax", normalize_observations=True)
    for call in calls.values():
        with pytest.raises(ValueError, match=r"jax\.jit.*agent\.policy_function\(\)"):
            TRANSFORMED[name](call, batch["obs"])
    assert fingerprint(agent) == before
    # Of a callback to the host nothing is frozen.
    shape = jax.ShapeDtypeStruct((40, 2), jnp.float32)
    host = lambda obs: agent.act(np.asarray(obs))[0]
    called = jax.jit(lambda obs: jax.pure_callback(host, shape, obs))
    assert (called(batch["obs"]) != called(batch["obs"])).any()


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace. is deprecated")
def test_batched_tensors_of_torch_are_refused():
    agent = make_agent("torch")
    obs, before = torch.zeros(4, 3), fingerprint(agent)
    transformed = {
        "vmap": lambda f: torch.func.vmap(lambda row: f(row[None]))(obs),
        "grad": lambda f: torch.func.grad(lambda rows: f(rows).sum())(obs),
        "trace": lambda f: torch.jit.trace(f, (obs,), check_trace=False),
    }
    for transform in transformed.values():
        for call in (lambda o: agent.act(o)[0], agent.value):
            with pytest.raises(ValueError, match=r"`obs`.*agent\.policy_function\(\)"):
                transform(call)
    assert fingerprint(agent) == before


def test_a_compiled_caller_of_torch_sees_new_noise_and_weights():
    agent, plain = make_agent("torch"), make_agent("torch")
    obs, batch = torch.zeros(4, 3), make_batch(make_agent("torch"))
    compiled = torch.compile(lambda o: agent.act(o)[0] * 1.0, backend="eager")
    with unchecked():
        for _ in range(3):
            np.testing.assert_array_equal(compiled(obs), plain.act(obs)[0])
        for one in (agent, plain):
            one.update(batch)
        np.testing.assert_array_equal(compiled(obs), plain.act(obs)[0])
