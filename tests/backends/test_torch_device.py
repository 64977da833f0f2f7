"""PyTorch's agents on another device than the CPU, simulated where there is none."""

import importlib
from contextlib import closing, contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.agents import as_array, fingerprint, make_agent, make_batch
from tests.support.device_agents import KINDS, batch_of, make, mask_of, observations
from tests.support.simulated_device import DEVICE, SimulatedDevice
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.data.report import StepStatus
from trpo.rollout.evaluation import evaluate
from trpo.training.trainer import Trainer


each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def life_of(kind, device, **changes):
    """All that an agent reports in a life with updates, rollback and resuming."""
    # By hand on a CPU alone, whose rounding is another.
    agent = make(kind, "torch", device, fast_products="off", **changes)
    obs, mask = observations(agent, 6), mask_of(agent, kind, 6)
    told = [as_array(a) for a in agent.act(obs, action_mask=mask)[:3]]
    for seed in range(2):
        batch = batch_of(agent, kind, seed)
        agent.observe(batch["obs"].reshape(-1, agent.obs_dim))
        told.append(agent.update(batch))
    before, huge = fingerprint(agent), batch_of(agent, kind, 2)
    for name in ("returns", "advantages"):
        huge[name] = huge[name] * np.float32(3e37)
    told.append(agent.update(huge))
    assert told[-1]["policy/status"] == StepStatus.NON_FINITE
    after = fingerprint(agent)
    counted = {name for name in before if before[name] != after[name]}
    assert counted <= {"random.action_draws"}
    agent.set_state(agent.get_state())
    told.append(agent.update(batch_of(agent, kind, 3)))
    return agent, told


def where_it_is_kept(agent):
    """Devices of parameters and of what optimisers remember of them."""
    optimizers = [agent.backend.value_optimizer]
    if hasattr(agent, "cost_optimizer"):
        optimizers.append(agent.cost_optimizer)
    slots = [
        (parameter, slot)
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for slot in state.values()
        if slot is not None
    ]
    return {tensor.device for pair in slots for tensor in pair}


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@each_kind
def test_an_agent_does_on_a_device_what_it_does_on_the_cpu(kind):
    agent, told = life_of(kind, "cpu")
    # Where what has no deterministic kernel is refused, and what is unwritten is NaN.
    with deterministic(), SimulatedDevice():
        there, also_told = life_of(kind, DEVICE)
        assert where_it_is_kept(there) <= {DEVICE}
        # What fused kernels read has to be where the parameters are.
        there.set_state(there.get_state())
        assert where_it_is_kept(there) <= {DEVICE}
        assert fingerprint(there) == fingerprint(agent)
    assert repr(also_told) == repr(told)


@each_kind
def test_tensors_of_the_host_and_of_the_device_are_taken_alike(kind):
    # On one without float64, which none of it needs.
    with SimulatedDevice(float64=False):
        agent = make(kind, "torch", DEVICE)
        obs, mask = observations(agent, 6), mask_of(agent, kind, 6)
        for place in ("cpu", DEVICE):
            native = [
                None if a is None else torch.from_numpy(a).to(place)
                for a in (obs, mask)
            ]
            given = agent.act(native[0], action_mask=native[1])[:3]
            given = [*given, agent.value(native[0])]
            if hasattr(agent, "cost_value"):
                given.append(agent.cost_value(native[0]))
            assert {tensor.device for tensor in given} == {DEVICE}
            batch = {
                name: torch.from_numpy(a).to(place) if isinstance(a, np.ndarray) else a
                for name, a in batch_of(agent, kind).items()
            }
            assert agent.update(batch)["policy/status"] == StepStatus.ACCEPTED


def test_an_update_waits_for_the_device_once_an_iteration_and_five_times():
    with SimulatedDevice() as device:
        agent = make_agent("torch", device=DEVICE)
        batch = make_batch(agent)
        for _ in range(2):
            device.reads.clear()
            device.to_host.clear()
            metrics = agent.update(batch)
            waits = len(device.reads) + len(device.to_host)
            # The first residual, the step's troubles, a candidate, soundness, report.
            assert waits == metrics["cg/iterations"] + 5


def test_a_snapshot_stays_on_the_device():
    with SimulatedDevice() as device:
        agent = make_agent("torch", device=DEVICE)
        agent.update(make_batch(agent))
        before = fingerprint(agent)
        crossings = (device.reads, device.to_host, device.to_device)
        for counted in crossings:
            counted.clear()
        snapshot = agent.snapshot()
        agent.restore(snapshot)
        assert not any(crossings)
        agent.update(make_batch(agent))
        agent.restore(snapshot)
        assert fingerprint(agent) == before


@pytest.mark.parametrize("updates", [0, 1])
def test_what_fails_within_an_update_is_undone_on_the_device(monkeypatch, updates):
    module = importlib.import_module("trpo_torch.agent.agent")
    real = module.fit_critic

    def fails(*arguments):
        real(*arguments)
        raise RuntimeError("injected")

    with SimulatedDevice():
        agent = make_agent("torch", device=DEVICE)
        batch = make_batch(agent)
        for _ in range(updates):
            agent.update(batch)
        before = fingerprint(agent)
        with monkeypatch.context() as patch:
            patch.setattr(module, "fit_critic", fails)
            with pytest.raises(RuntimeError, match="injected"):
                agent.update(batch)
        assert fingerprint(agent) == before
        assert agent.update(batch)["policy/status"] == StepStatus.ACCEPTED


def test_float64_on_a_device_that_lacks_it_is_refused():
    with (
        SimulatedDevice(float64=False),
        pytest.raises(ValueError, match=r"`dtype`: expected 'float32' on meta"),
    ):
        make_agent("torch", device=DEVICE, dtype="float64")


@pytest.mark.parametrize("place", ["cpu", DEVICE])
def test_custom_networks_follow_the_agent_from_wherever_they_are(place):
    with SimulatedDevice():
        own = {
            name: nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, n)).to(place)
            for name, n in (("policy_network", 2), ("value_network", 1))
        }
        # The default's sizes, which say nothing to such networks.
        sizes = {"policy_layer_sizes": (64, 64), "critic_layer_sizes": (64, 64)}
        agent = make_agent("torch", device=DEVICE, **sizes, **own)
        batch = make_batch(agent)
        agent.update(batch)
        agent.set_state(agent.get_state())
        assert agent.update(batch)["policy/status"] == StepStatus.ACCEPTED


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_training_on_a_device_is_what_it_is_on_the_cpu(env_id):
    small = TRPOConfig(
        policy_layer_sizes=(8,), critic_layer_sizes=(8,), value_epochs=1,
        fast_products="off",
    )  # fmt: skip

    def trained(device):
        config = TrainConfig(
            env_id=env_id, backend="torch", device=device, num_envs=2,
            rollout_steps=32, agent=small,
        )  # fmt: skip
        with closing(Trainer(config)) as trainer:
            trainer.train_once()
            trainer.set_state(trainer.get_state())
            metrics = trainer.train_once().metrics
            played = evaluate(trainer.agent, env_id, episodes=1, seed=0)
        metrics = {n: x for n, x in metrics.items() if not n.startswith("time/")}
        return metrics, played.returns.tolist()

    on_cpu = trained("cpu")
    with SimulatedDevice():
        assert trained(DEVICE.type) == on_cpu


def test_the_simulated_device_refuses_what_a_device_would():
    with SimulatedDevice() as device:
        here, there = torch.ones(2), torch.ones(2, device=DEVICE)
        assert not there.is_cpu
        assert (there * torch.tensor(2.0)).tolist() == [2.0, 2.0]
        for mixed in (
            lambda: here + there,
            lambda: torch.stack([here, there]),
            lambda: torch.where(there > 0, here, there),
        ):
            with pytest.raises(RuntimeError, match="on the host"):
                mixed()
        with pytest.raises(RuntimeError):
            there.numpy()
        device.reads.clear()
        assert float(there.sum()) == 2.0
        assert bool((there > 0).all())
        assert len(device.reads) == 2
        with deterministic(), pytest.raises(RuntimeError, match="deterministic"):
            torch.cumsum(there, 0)
