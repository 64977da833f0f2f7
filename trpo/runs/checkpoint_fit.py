"""Whether a checkpoint is of a configuration; asked before anything is made of it."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from trpo.common.validation import shown
from trpo.config.run import TrainConfig
from trpo.runs.checkpoint import MANIFEST_FILE, Checkpoint, CheckpointError
from trpo.spaces.architecture import CELLS, NONE
from trpo.spaces.user_networks import NETWORKS
from trpo.training.python_arguments import PythonArguments


# What a resumed run may do otherwise than the run that was saved. All else is what the
# saved numbers are of: the environment, counts of steps, networks, what is remembered.
# How long it goes on, where, how fast and how exactly; what is looked at and kept.
OPERATION = frozenset(
    (
        "total_steps", "backend", "device", "deterministic", "vectorization",
        "environment_timeout", "environment_restarts", "batch_chunk_size",
        "matmul_precision", "fast_products", "modules", "eval_episodes",
        "eval_max_steps", "eval_interval", "eval_interval_steps",
        "eval_interval_episodes", "checkpoint_interval", "keep_checkpoints",
        "callbacks", "policy_network", "value_network",
    )
)  # fmt: skip
# What the next update reads, and nothing that is saved depends on; a change is said.
LEARNING = frozenset(
    (
        "on_bad_data", "final_target_kl", "final_value_lr", "full_radius_advantage_std",
        "gae_lambda", "target_kl", "cg_iters", "cg_damping", "cg_residual_tol",
        "backtrack_coeff", "backtrack_iters", "line_search",
        "value_lr", "value_epochs", "value_minibatch_size", "max_grad_norm",
        "normalize_advantages", "fisher_product", "fisher_every", "entropy_coefficient",
        "cost_standard_errors", "cost_lambda",
    )
)  # fmt: skip


def changes(
    config: TrainConfig, checkpoint: Checkpoint, *, drop_removed: bool = False
) -> dict[str, tuple[Any, Any]]:
    """Field -> what it was as the checkpoint was saved, and what it is in `config`.

    `drop_removed` is that of `TrainConfig.from_dict`.

    Raises:
        CheckpointError: the checkpoint does not say what it is of.
    """
    try:
        saved = TrainConfig.from_dict(
            checkpoint.metadata["config"], drop_removed=drop_removed
        )
    except KeyError:
        reason = "expected the configuration of the run, got none."
    except ValueError as error:
        reason = str(error)
    else:
        before, now = _flat(saved), _flat(config)
        return {n: (before[n], now[n]) for n in now if before[n] != now[n]}
    raise CheckpointError(f"{checkpoint.path / MANIFEST_FILE}: `config`: {reason}")


def require_fit(
    config: TrainConfig,
    checkpoint: Checkpoint,
    arguments: PythonArguments = PythonArguments(),  # noqa: B008 (frozen)
    *,
    needed: Sequence[str] | None = None,
    drop_removed: bool = False,
) -> dict[str, tuple[Any, Any]]:
    """Refuse a checkpoint that is not of this configuration.

    Args:
        config: Of the run as it is to go on.
        checkpoint: That was read.
        arguments: What is given beside the configuration.
        needed: Of these, names of those without which nothing can be made; by default
            all.
        drop_removed: As of `TrainConfig.from_dict`.

    Returns:
        What has changed of `LEARNING`; see `changes`.

    Raises:
        CheckpointError: names each field that may not change, with both its values.
    """
    changed = changes(config, checkpoint, drop_removed=drop_removed)
    if refused := [name for name in changed if name not in OPERATION | LEARNING]:
        listed = " ".join(
            f"`{name}`: expected {shown(before)}, got {shown(now)}."
            for name, (before, now) in ((name, changed[name]) for name in refused)
        )
        raise CheckpointError(
            f"{checkpoint.path}: does not fit config.json. {listed} Set that back, or "
            "start a new run."
        )
    _require_given(config, checkpoint, arguments, needed)
    for argument in NETWORKS:
        if getattr(arguments, argument) is None and getattr(config, argument) is None:
            network = argument.removesuffix("_network")
            _require_network(config, checkpoint, network)
    _require_counts(config, checkpoint)
    return {name: changed[name] for name in changed if name in LEARNING}


@contextlib.contextmanager
def restoring(checkpoint: Checkpoint) -> Iterator[None]:
    """Raise ValueErrors of the block as CheckpointErrors that name the checkpoint."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error


def _require_given(
    config: TrainConfig,
    checkpoint: Checkpoint,
    arguments: PythonArguments,
    needed: Sequence[str] | None,
) -> None:
    with restoring(checkpoint):
        missing = arguments.missing(checkpoint.metadata, config)
    missing = {n: text for n, text in missing.items() if needed is None or n in needed}
    if missing:
        listed = ", ".join(f"`{name}` ({text})" for name, text in missing.items())
        raise CheckpointError(
            f"{checkpoint.path}: expected again what the run was given in Python, "
            f"{listed}, got none. Give it to trpo.load_agent, trpo.train_run or "
            "trpo.evaluate as that argument; networks that a function makes also by "
            "--policy-network and --value-network."
        )


def _require_network(config: TrainConfig, checkpoint: Checkpoint, network: str) -> None:
    agent = config.agent
    field = f"{'policy' if network == 'policy' else 'critic'}_layer_sizes"
    sizes = list(getattr(agent, field))
    widths = [
        _rows(checkpoint, f"{network}.layers.{i}.weight") for i, _ in enumerate(sizes)
    ]
    if widths != sizes:
        raise _unlike(checkpoint, field, sizes, widths)
    if agent.recurrent != NONE:
        size = agent.recurrent_size
        rows = _rows(checkpoint, f"{network}.cell.hidden.weight")
        if rows != CELLS[agent.recurrent].gates * size:
            raise _unlike(checkpoint, "recurrent_size", size, rows)


def _require_counts(config: TrainConfig, checkpoint: Checkpoint) -> None:
    """Each environment has a state, and each update its steps."""
    environments = _rows(checkpoint, "environment.episode")
    if environments != config.num_envs:
        raise _unlike(checkpoint, "num_envs", config.num_envs, environments)
    updates = checkpoint.arrays.get("training.update", np.zeros(0))
    steps = updates.reshape(-1).astype(float) * config.num_envs * config.rollout_steps
    if steps.tolist() != [checkpoint.step]:
        raise _unlike(checkpoint, "step", checkpoint.step, steps.tolist())


def _rows(checkpoint: Checkpoint, name: str) -> int:
    """Length of the first dimension of an array; 0 if there is none."""
    array = checkpoint.arrays.get(name, np.zeros(0))
    return array.shape[0] if array.ndim else 0


def _unlike(
    checkpoint: Checkpoint, name: str, expected: object, got: object
) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint.path}: `{name}`: expected {shown(expected)}, got arrays of "
        f"{shown(got)}."
    )


def _flat(config: TrainConfig) -> dict[str, Any]:
    values = dataclasses.asdict(config)
    return values | values.pop("agent")
