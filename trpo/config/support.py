"""What can't be combined: one table of settings, and of what each of them excludes."""

from typing import Any, NamedTuple

from trpo.common.validation import shown
from trpo.spaces.architecture import NONE


class Exclusion(NamedTuple):
    """What a setting has to be with a kind of agent, network or training.

    Attributes:
        setting: name of a field, or of an argument of the agent.
        allowed: values that it may have.
        reason: continues the kind's name: "a recurrent agent, whose …".
        advice: what to do.
    """

    setting: str
    allowed: tuple[Any, ...]
    reason: str
    advice: str = "Leave one of the two out."


RECURRENT = "a recurrent agent"
CONSTRAINED = "an agent with `cost_limit`"
CUSTOM = "a `policy_network` or `value_network` of your own"
COMPILED = "compiled training"

_PLAIN = "whose cell is followed by plain tanh layers"
_WHOLE = "whose samples are not divided"
_ON_DEVICE = "Leave --compiled out."
EXCLUSIONS: dict[str, tuple[Exclusion, ...]] = {
    RECURRENT: (
        Exclusion("activation", ("tanh",), _PLAIN),
        Exclusion("layer_norm", (False,), _PLAIN),
        Exclusion("share_encoder", (False,), _PLAIN),
        Exclusion("images", ((),), _PLAIN),
        Exclusion("policy_network", (None,), _PLAIN),
        Exclusion("value_network", (None,), _PLAIN),
        Exclusion("cost_limit", (None,), "which has no recurrent cost critic"),
        Exclusion(
            "fisher_every", (1,), "whose samples are steps of whole sequences",
            "Leave it out, or lower `cg_iters`.",
        ),
        Exclusion("batch_chunk_size", (None,), _WHOLE),
    ),
    CONSTRAINED: (Exclusion("batch_chunk_size", (None,), _WHOLE),),
    CUSTOM: (
        Exclusion("share_encoder", (False,), "which doesn't say what layers encode"),
    ),
    COMPILED: (
        Exclusion(
            "backend", ("jax",), "as PyTorch's loop runs on the host",
            "Leave --compiled out, or take --backend jax.",
        ),
        Exclusion(
            "recurrent", (NONE,), "whose loop on the device keeps no hidden states",
            _ON_DEVICE,
        ),
        Exclusion(
            "cost_limit", (None,), "whose loop on the device reads no costs", _ON_DEVICE
        ),
        Exclusion(
            "omit_observations", ((),), "which takes observations whole", _ON_DEVICE
        ),
        Exclusion(
            "env_kwargs", ({},), "which makes environments as registered", _ON_DEVICE
        ),
        Exclusion(
            "wrapper_class", (None,), "which runs no wrapper on the device", _ON_DEVICE
        ),
        Exclusion(
            "action_masks", ("info",), "whose loop on the device reads no masks",
            _ON_DEVICE,
        ),
        Exclusion(
            "eval_max_steps", (0,), "whose environments all have a time limit",
            "Leave --eval-max-steps out.",
        ),
        Exclusion(
            "video_every", (0,), "whose environments stay on the device",
            "Leave --video-every out, and film the result by: trpo evaluate RUN_DIR "
            "--video DIR",
        ),
    ),
}  # fmt: skip


def require_supported(kind: str, *configs: Any, **arguments: Any) -> None:
    """Raise ValueError, naming the setting, if a kind excludes one that is asked for.

    Args:
        kind: A key of `EXCLUSIONS`.
        configs: Dataclasses that have the settings.
        arguments: Settings that are no fields of them.
    """
    for config in configs:
        arguments = vars(config) | arguments
    for setting, allowed, reason, advice in EXCLUSIONS[kind]:
        if setting in arguments and (value := arguments[setting]) not in allowed:
            raise ValueError(
                f"`{setting}`: expected {' or '.join(map(repr, allowed))} for {kind}, "
                f"{reason}, got {shown(value)}. {advice}"
            )
