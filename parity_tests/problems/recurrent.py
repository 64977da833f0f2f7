"""Problems of recurrent agents: sequences with borders inside, states to begin with."""

import functools
from typing import Any, NamedTuple

import numpy as np

from parity_tests.common.canonical import Arrays, round32
from parity_tests.reference import recurrent as reference
from trpo.agent.make import load_backend
from trpo.data.hidden_state import Memory
from trpo.spaces.action_heads import CATEGORICAL, GAUSSIAN
from trpo.spaces.architecture import CELLS


STEPS, ENVS, OBS_DIM, SIZE = 6, 3, 3, 4
OPTIONS = {
    "policy_layer_sizes": (5,), "critic_layer_sizes": (3,), "recurrent_size": SIZE,
    "dtype": "float64", "value_epochs": 2, "cg_damping": 0.05,
    # Two environments at a time, and then the third.
    "value_minibatch_size": 2 * STEPS,
}  # fmt: skip


class RecurrentProblem(NamedTuple):
    """One problem; numbers exact in float32.

    Attributes:
        kind: of the cell.
        options: of the agent, beside `OPTIONS`.
        state: canonical weights.
        batch: fields of `trpo.data.batch.SequenceBatch`.
        probe: [p] a vector for Fisher products.
    """

    kind: str
    options: dict[str, Any]
    state: Arrays
    batch: dict[str, Any]
    probe: np.ndarray

    def weights(self, network: str) -> Arrays:
        """Arrays of "policy" or "value", without the prefix."""
        return {
            name.removeprefix(f"{network}."): array
            for name, array in self.state.items()
            if name.startswith(f"{network}.")
        }

    @property
    def valid(self) -> np.ndarray:
        """[T * B] which entries are samples."""
        return np.asarray(self.batch["valid"]).reshape(-1)

    def samples(self, name: str) -> np.ndarray | None:
        """A field of the batch, [n, …] of the samples alone."""
        array = self.batch[name]
        if array is None:
            return None
        return array.reshape(STEPS * ENVS, *array.shape[2:])[self.valid]

    def outputs(self, weights: Arrays) -> np.ndarray:
        """The policy's outputs [n, out] at the samples."""
        outputs = self._forward(weights, self.batch["memory"].policy)
        return outputs.reshape(STEPS * ENVS, -1)[self.valid]

    def values(self, weights: Arrays) -> np.ndarray:
        """The critic's values [T, B]."""
        return self._forward(weights, self.batch["memory"].critic)[..., 0]

    def _forward(self, weights: Arrays, memory: np.ndarray) -> np.ndarray:
        return reference.forward(
            kind=self.kind, weights=weights, obs=self.batch["obs"],
            starts=self.batch["starts"], memory=memory,
        )  # fmt: skip


def agent(framework: str, problem: RecurrentProblem) -> Any:
    """A backend's agent with the problem's weights."""
    new_agent = load_backend(framework).RecurrentTRPOAgent(
        obs_dim=OBS_DIM, act_dim=problem.batch["actions"].shape[-1], action_low=-1.0,
        action_high=3.0, device="cpu", recurrent=problem.kind,
        **OPTIONS, **problem.options,
    )  # fmt: skip
    new_agent.set_state({**new_agent.get_state(), **problem.state})
    return new_agent


@functools.lru_cache
def build(kind: str) -> RecurrentProblem:
    """The problem of a kind of cell, always the same one.

    That of "gru" has real actions, and entries that are no samples; that of "lstm" has
    a choice with masks, and the Hessian of KL.
    """
    rng = np.random.default_rng([7, len(kind)])
    options: dict[str, Any] = {"distribution": GAUSSIAN}
    shape, act_dim = (STEPS, ENVS), 2
    valid, mask = np.ones(shape, dtype=bool), None
    starts = np.zeros(shape, dtype=bool)
    starts[3, 0] = starts[0, 1] = starts[2, 1] = starts[4, 1] = True
    if kind == "gru":
        valid[2, 0] = valid[1, 1] = False
        actions = rng.standard_normal((*shape, act_dim))
    else:
        act_dim, sizes = 1, (4,)
        options = {"distribution": CATEGORICAL, "action_sizes": sizes,
                   "fisher_product": "kl_hessian"}  # fmt: skip
        mask = np.ones((*shape, 4))
        mask[::2, :, 1] = mask[1::2, 0, 3] = 0.0
        actions = np.where(np.arange(STEPS) % 2, 1.0, 3.0)[:, None, None]
        actions = np.tile(actions, (1, ENVS, 1))
    state = _state(rng, kind, act_dim if kind == "gru" else 4)
    states = CELLS[kind].states * SIZE
    memory = Memory(*(round32(0.5 * rng.standard_normal((2, ENVS, states)))))
    batch = {
        "obs": round32(rng.standard_normal((*shape, OBS_DIM))),
        "actions": round32(actions),
        "returns": round32(rng.standard_normal(shape)),
        "advantages": round32(rng.standard_normal(shape) + 0.3),
        "starts": starts, "memory": memory, "valid": valid, "action_mask": mask,
    }  # fmt: skip
    size = sum(a.size for n, a in state.items() if n.startswith("policy."))
    problem = RecurrentProblem(
        kind, options, state, batch, round32(rng.standard_normal(size))
    )
    everywhere = problem._replace(batch={**batch, "valid": np.ones(shape, dtype=bool)})
    policy = problem.weights("policy")
    old = reference.log_probs(
        everywhere.outputs(policy), policy, everywhere.samples("actions"),
        everywhere.samples("action_mask"),
    )  # fmt: skip
    noise = 0.1 * rng.standard_normal(old.shape)
    batch["log_probs"] = round32((old + noise).reshape(shape))
    return problem


def _state(rng: np.random.Generator, kind: str, outputs: int) -> Arrays:
    gates = CELLS[kind].gates * SIZE
    shapes = {"policy.log_std": (outputs,)} if kind == "gru" else {}
    for network, hidden, last in (("policy", 5, outputs), ("value", 3, 1)):
        shapes |= {
            f"{network}.cell.input.weight": (gates, OBS_DIM),
            f"{network}.cell.input.bias": (gates,),
            f"{network}.cell.hidden.weight": (gates, SIZE),
            f"{network}.cell.hidden.bias": (gates,),
            f"{network}.layers.0.weight": (hidden, SIZE),
            f"{network}.layers.0.bias": (hidden,),
            f"{network}.layers.1.weight": (last, hidden),
            f"{network}.layers.1.bias": (last,),
        }
    return {
        name: round32(0.6 * rng.standard_normal(shape))
        for name, shape in shapes.items()
    }
