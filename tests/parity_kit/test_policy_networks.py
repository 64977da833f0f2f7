"""The user's own policy networks in whole updates: equal, faulty, misused."""

import jax
import pytest
import torch
from flax import nnx

from examples.parity_policy_networks import (
    WEIGHTS,
    JaxNetwork,
    TorchNetwork,
    observations,
    pair,
)
from parity_kit import Pair, command, prove
from parity_tests.bridges.user_networks.pair import in_updates
from trpo.cli.main import main


class Approximated(JaxNetwork):
    """tanh by its first terms."""

    def __call__(self, obs):
        x = self.first(obs)
        hidden = x * (27.0 + x * x) / (27.0 + 9.0 * x * x)
        return self.last(hidden + jax.numpy.tanh(self.second(hidden)))


class WithoutBias(JaxNetwork):
    def __call__(self, obs):
        hidden = jax.numpy.tanh(obs @ self.first.kernel[...])
        return self.last(hidden + jax.numpy.tanh(self.second(hidden)))


class Stopped(JaxNetwork):
    """The same outputs, another gradient."""

    def __call__(self, obs):
        hidden = jax.numpy.tanh(self.first(obs))
        second = jax.numpy.tanh(self.second(jax.lax.stop_gradient(hidden)))
        return self.last(hidden + second)


def torch_function(obs):
    return obs


def jax_function(obs):
    return obs


class Normalised(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)

    def forward(self, obs):
        return self.norm(obs)


class JaxNormalised(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(3, epsilon=1e-5, momentum=0.9, rngs=rngs)

    def __call__(self, obs):
        return self.norm(obs)


def several(seed):
    return (*observations(seed), *observations(seed + 1))


PAIRS = {
    "equal": pair,
    "approximated": Pair(TorchNetwork, Approximated, observations, WEIGHTS),
    "without bias": Pair(TorchNetwork, WithoutBias, observations, WEIGHTS),
    "stopped": Pair(TorchNetwork, Stopped, observations, WEIGHTS),
}
WRONG = {
    "functions": Pair(torch_function, jax_function, observations),
    "several": Pair(TorchNetwork, JaxNetwork, several, WEIGHTS),
    "statistics": Pair(Normalised, JaxNormalised, observations, "infer"),
    "weights": Pair(TorchNetwork, JaxNetwork, observations),
}


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("equal", None),
        ("approximated", "network"),
        ("without bias", "network"),
        ("stopped", "surrogate gradient"),
    ],
)
def test_the_first_stage_of_an_update_that_differs_is_named(name, first, processes):
    pairs = in_updates({name: (PAIRS[name], None)}, processes)
    updates, where = pairs[f"{name}, gaussian"]
    found = prove(
        updates, [1], processes=processes, where=where, precisions=(), faults=0
    )
    assert found.first_divergence == first, found.summary()
    assert found.verdict == ("failed" if first else "passed")
    rings = {(row["ring"], row["quantity"].split("/")[1]) for row in found.rows}
    assert {("A", "network"), ("A", "Fisher product"), ("D", "update")} <= rings


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("functions", "`torch`: a policy's network is a torch.nn.Module"),
        ("several", "`inputs`: a policy's network gets one array"),
        ("statistics", "leave dropout out, and replace batch by layer"),
        ("weights", "give a map"),
    ],
)
def test_what_is_no_pair_of_policy_networks_is_one_line(name, said, processes, capsys):
    text = f"{__name__}:WRONG"
    changed = lambda _, processes: in_updates({name: (WRONG[name], None)}, processes)
    arguments = command.Arguments(text, seeds=1, precisions=(), faults=0)
    assert command.run(arguments, processes, changed) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    line = printed.err.splitlines()[-1]
    assert line.startswith("error: ")
    assert said in line


def test_one_thing_is_asked_for_at_a_time(capsys):
    assert main(["parity", "--quick", "--policy-network-pair", "nets:pair"]) == 2
    assert "expected one of" in capsys.readouterr().err


def test_the_command_finds_the_pair_by_its_name(capsys):
    assert main(["parity", "--policy-network-pair", "nowhere:pair"]) == 2
    assert "no such module" in capsys.readouterr().err
