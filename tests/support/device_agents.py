"""Agents of every kind on any device, and what each does there."""

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from trpo.agent.make import load_backend


ROWS, STEPS = 40, 10
OBS_DIM = 3
BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
MIXED = spaces.Tuple((spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3)))
PIXELS = spaces.Box(0, 255, (12, 12, 1), np.uint8)
SMALL = {
    "policy_layer_sizes": (5, 4), "critic_layer_sizes": (6,), "value_epochs": 2,
    "value_minibatch_size": 16, "cg_iters": 4,
}  # fmt: skip
CLASSES = {
    "recurrent": "RecurrentTRPOAgent",
    "cost_limit": "ConstrainedTRPOAgent",
}


class Kind(NamedTuple):
    """An agent's spaces and options."""

    name: str
    options: dict[str, Any]
    actions: spaces.Space = BOX
    observations: spaces.Space = spaces.Box(-9.0, 9.0, (OBS_DIM,), np.float32)
    masked: bool = False


KINDS = [
    Kind("plain", {"optimizer_type": "adam"}),
    Kind("sgd", {"optimizer_type": "sgd"}),
    Kind("sgd without momentum", {"optimizer_type": "sgd", "sgd_momentum": 0.0}),
    Kind("normalized", {
        "normalize_observations": True, "entropy_coefficient": 0.1, "fisher_every": 3,
    }),
    Kind("natural", {"line_search": "none", "fisher_product": "kl_hessian"}),
    Kind("whole batch", {"value_minibatch_size": 0}),
    Kind("chunks", {"batch_chunk_size": 16, "activation": "elu"}),
    Kind("layer norm", {"layer_norm": True, "activation": "gelu"}),
    Kind("shared encoder", {"share_encoder": True, "activation": "relu"}),
    Kind("squashed", {"policy_distribution": "squashed_gaussian"}),
    Kind("own std", {"policy_distribution": "squashed_gaussian_state_std"}),
    Kind("choice", {}, spaces.MultiDiscrete([2, 4]), masked=True),
    Kind("switches", {}, spaces.MultiBinary(2), masked=True),
    Kind("mixed", {}, MIXED, masked=True),
    Kind("image", {}, spaces.Discrete(3), PIXELS),
    Kind("gru", {"recurrent": "gru", "recurrent_size": 5}),
    Kind("lstm", {"recurrent": "lstm", "recurrent_size": 5}),
    Kind("limit", {"cost_limit": 1.0}),
]  # fmt: skip


def make(kind: Kind, backend: str, device: Any, **changes: Any) -> Any:
    """A small agent of this kind."""
    name = next((CLASSES[n] for n in kind.options if n in CLASSES), "TRPOAgent")
    made = getattr(load_backend(backend), name)
    options = SMALL | kind.options | changes
    return made.for_spaces(kind.observations, kind.actions, device, **options)


def observations(agent: Any, rows: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((rows, agent.obs_dim)).astype(agent.dtype)


def mask_of(agent: Any, kind: Kind, rows: int) -> np.ndarray | None:
    """Forbids the second option of each first choice in every third row."""
    if not kind.masked:
        return None
    mask = np.ones((rows, sum(agent.head.options)), agent.dtype)
    mask[::3, 1] = 0.0
    return mask


def batch_of(agent: Any, kind: Kind, seed: int = 0) -> dict[str, Any]:
    """Samples of the agent's own policy."""
    generator = np.random.default_rng(seed)
    obs, mask = observations(agent, ROWS, seed), mask_of(agent, kind, ROWS)
    actions, log_probs, *_ = agent.act(obs, action_mask=mask)
    batch = {"obs": obs, "actions": actions, "log_probs": log_probs}
    if mask is not None:
        batch["action_mask"] = mask
    for name in ("returns", "advantages"):
        batch[name] = generator.standard_normal((ROWS, 1)).astype(agent.dtype)
    if "cost_limit" in kind.options:
        for name in ("cost_returns", "cost_advantages"):
            batch[name] = generator.standard_normal((ROWS, 1)).astype(agent.dtype)
        batch["cost_excess"] = 0.5
    if "recurrent" in kind.options:
        shape = (STEPS, ROWS // STEPS)
        batch = {n: a.reshape(*shape, -1) for n, a in batch.items()}
        batch["starts"] = np.arange(STEPS)[:, None] % 4 == np.zeros(shape, int)
        valid = np.ones(shape, dtype=bool)
        valid[-1, 0] = False
        batch |= {"valid": valid, "memory": agent.initial_memory(shape[1])}
    return batch
