"""What one side's run gives, in one form for both frameworks."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from parity_kit import references
from parity_kit.arrays import Leaves


class UserError(ValueError):
    """The user's code raised."""


class Results:
    """Named arrays of one run, in the order of the stages.

    Attributes:
        arrays: `outputs/...`, `loss`, `gradient/NAME`, `optimizer/STEP/NAME` (the
            parameters after a step), `state/NAME`.
        probes: name -> what was marked, in the order in which they were met.
        modules: path -> output of a part of a module.
        structures: stage or probe -> what is around its arrays, see `Leaves`.
        remarks: what a user may want to know of the run.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.probes: dict[str, Leaves] = {}
        self.modules: dict[str, Leaves] = {}
        self.structures: dict[str, str] = {}
        self.remarks: list[str] = []

    def output(self, leaves: Leaves) -> None:
        """Take the function's result."""
        self.arrays |= leaves.arrays
        self.structures["outputs"] = leaves.structure

    def note_module(self, path: str, output: Any, to_numpy: Callable) -> None:
        """Take the output of a part of a module; what has no arrays is left out."""
        try:
            self.modules.setdefault(path, Leaves(output, path, to_numpy))
        except ValueError:
            return

    def all_arrays(self) -> dict[str, np.ndarray]:
        """All arrays, those of probes as `probe/NAME`, of modules as `module/PATH`."""
        marked = {
            f"{kind}/{name}": array
            for kind, group in (("probe", self.probes), ("module", self.modules))
            for leaves in group.values()
            for name, array in leaves.arrays.items()
        }
        return marked | self.arrays

    def facts(self) -> dict[str, Any]:
        """What isn't arrays, as JSON."""
        structures = {f"probe/{n}": x.structure for n, x in self.probes.items()}
        return {
            "structures": self.structures | structures,
            "probes": list(self.probes),
            "modules": list(self.modules),
            "remarks": self.remarks,
        }


class Runs(Protocol):
    """What a side of either framework is to the process that it runs in."""

    def run(
        self,
        inputs: tuple[np.ndarray, ...],
        weights: Mapping[str, np.ndarray],
        steps: int,
        products: tuple[str, ...] = (),
        noise: tuple[int, float] | None = None,
        record: bool = True,
        modules: tuple[str, ...] = (),
    ) -> Results:
        """Everything that a side gives.

        Args:
            inputs: The arrays given by position.
            weights: By name; those of a module that are missing stay as they are.
            steps: Optimiser steps.
            products: Of "jacobian" and "hessian".
            noise: Seed and unit of the rounding noise that all computing has.
            record: Whether probes are recorded.
            modules: Parts of the module whose outputs are recorded, by their paths.
        """
        ...


def cotangent(name: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A random vector of signs, the same in both frameworks."""
    digest = hashlib.sha256(str(name).encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    return np.where(rng.random(shape) < 0.5, -1.0, 1.0)


def user_code(
    framework: str, what: str, function: Any, *args: Any, **kwargs: Any
) -> Any:
    """Call the user's code; what it raises says which side, and the line.

    Raises:
        UserError: it raised.
    """
    try:
        return function(*args, **kwargs)
    except (UserError, ValueError) as error:
        if isinstance(error, UserError) or str(error).startswith("`"):
            raise
        raise _wrapped(framework, what, error) from error
    except Exception as error:
        raise _wrapped(framework, what, error) from error


def _wrapped(framework: str, what: str, error: Exception) -> UserError:
    text = " ".join(str(error).split())
    return UserError(
        f"`{framework}`: {what} raised {type(error).__name__}: {text[:500]}"
        f"{references.line_of(error)}"
    )
