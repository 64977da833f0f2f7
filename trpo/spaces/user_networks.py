"""Checks of a network that the user brings, in either framework."""

import dataclasses
import functools
import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trpo.common.user_modules import import_modules
from trpo.common.validation import shown
from trpo.spaces.architecture import PIXEL_SCALE, Image


# Far above rounding, far below what another row of a batch would change.
TOLERANCE = 1e-4
NETWORKS = ("policy_network", "value_network")
"""Arguments and settings that are networks of the user's."""


class CustomNetworks(NamedTuple):
    """The modules that the user brings; None where the agent makes its own."""

    policy: Any = None
    value: Any = None

    def ignored(self, config: Any) -> list[str]:
        """Settings of a `TRPOConfig` that are no default and say nothing to these."""
        names = []
        if self.policy is not None:
            names.append("policy_layer_sizes")
        if self.value is not None:
            names.append("critic_layer_sizes")
        if None not in self:
            names += ["activation", "layer_norm", "initialization"]
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        return [f"`{n}`" for n in names if getattr(config, n) != defaults[n]]

    def require(self, described: Mapping[str, Any]) -> None:
        """Raise ValueError unless those are here that `described` names."""
        for name, network in self._asdict().items():
            if (network is None) != (name not in described):
                expected = described.get(name, "none")
                raise ValueError(
                    f"`{name}_network`: expected the network that the agent was given, "
                    f"{shown(expected)}, got {shown(network)}."
                )

    def described(self) -> dict[str, str]:
        """Names of the policy and the value network's classes, for a checkpoint.

        That is `module:name` of its class, where that can be imported.
        """
        networks = {
            name: one for name, one in self._asdict().items() if one is not None
        }
        return {name: name_of(type(one)) or GIVEN for name, one in networks.items()}


GIVEN = "given in Python"
"""What is noted of code that has no name by which it could be imported."""


def name_of(code: Any) -> str | None:
    """`module:name` of a function or a class; None if it can't be imported so."""
    module, name = (getattr(code, n, "") for n in ("__module__", "__qualname__"))
    try:
        same = operator.attrgetter(name)(sys.modules[module]) is code
    except (AttributeError, KeyError, TypeError):
        return None
    return f"{module}:{name}" if same and module != "__main__" else None


def is_maker(network: Any) -> bool:
    """Whether it is a function or class that makes a network, and no network."""
    return inspect.isroutine(network) or isinstance(network, type | functools.partial)


def network_of(argument: str, network: Any, **about: Any) -> Any:
    """A network; one that is given as what makes it is made.

    Args:
        argument: Of `NETWORKS`, for messages.
        network: It; or a function or class that makes it, or its name as
            module:function.
        about: What the function may ask for, by the names of its parameters.

    Raises:
        UserModuleError: there is no such module.
        ValueError: there is no such function, it asks for more, or fails.
    """
    shown_name = network if isinstance(network, str) else name_of(network) or network
    if isinstance(network, str):
        module, _, name = network.partition(":")
        import_modules([module])
        try:
            network = operator.attrgetter(name)(sys.modules[module])
        except AttributeError as error:
            raise ValueError(
                f"`{argument}`: expected module:function, got {network}, and {error}."
            ) from None
        if not is_maker(network):
            raise ValueError(
                f"`{argument}`: expected a function that makes a network, got "
                f"{shown_name}, which is {type(network).__name__}."
            )
    if not is_maker(network):
        return network
    parameters = inspect.signature(network).parameters.values()
    asked = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    unknown = [p for p in asked if p.name not in about and p.default is p.empty]
    if unknown:
        raise ValueError(
            f"`{argument}`: expected a function of any of {', '.join(about)}, by name, "
            f"got {shown_name}, which asks for {unknown[0].name!r}."
        )
    try:
        return network(**{p.name: about[p.name] for p in asked if p.name in about})
    except Exception as error:
        raise ValueError(
            f"`{argument}`: {shown_name} failed: {type(error).__name__}: {error}"
        ) from error


def pixel_scales(images: Sequence[Image], obs_dim: int) -> np.ndarray:
    """[obs_dim] what observations are divided by, so that pixels are from 0 to 1."""
    scales = np.ones(obs_dim)
    for image in images:
        scales[image.part] = PIXEL_SCALE
    return scales


def require_stateless(name: str, states: Sequence[str]) -> None:
    """Raise ValueError if anything but parameters was found, named by its type."""
    if states:
        raise ValueError(
            f"`{name}`: expected a function of its parameters alone, got {states[0]}. "
            "The trust region compares a policy with itself, so a network may neither "
            "be random nor keep a state: leave dropout out, and replace batch by layer "
            "normalisation."
        )


def run_or_refuse(name: str, network: Callable, obs: Any) -> Any:
    """Output of the network; its error becomes a ValueError that names it."""
    try:
        return network(obs)
    except Exception as error:
        raise ValueError(
            f"`{name}`: expected a network of observations [N, {obs.shape[1]}], flat, "
            f"got {type(error).__name__}: {error}"
        ) from error


def require_outputs(name: str, outputs: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the network put out an array of this shape."""
    got = getattr(outputs, "shape", None)
    if got is None or tuple(got) != shape:
        raise ValueError(
            f"`{name}`: expected outputs [N, {shape[1]}] (for a policy, as "
            f"`trpo.spaces.action_heads.Head.output_dim` says), got "
            f"{type(outputs) if got is None else list(got)} for N = {shape[0]}."
        )


def require_same(
    name: str, whole: np.ndarray, again: np.ndarray, alone: np.ndarray
) -> None:
    """Raise ValueError unless a second call, and each row alone, gave the same."""
    if not np.array_equal(whole, again):
        require_stateless(name, ["other outputs in a second call"])
    if not np.allclose(whole, alone, rtol=TOLERANCE, atol=TOLERANCE):
        require_stateless(name, ["outputs that depend on the other rows of a batch"])
