"""Output layers of a policy, and the distribution over actions that each stands for.

Each is a file in `distributions/` of either backend and a row of `FAMILIES` here.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from trpo.common.validation import require_choice, require_count


class Family(NamedTuple):
    """Properties of a distribution that both backends share.

    Attributes:
        distribution: "file:Class" below `distributions` of either backend.
        discrete: actions are whole numbers from 0 on, sampled from uniform noise by
            inversion; otherwise real numbers, sampled from standard normal noise, or
            those with such choices after them.
        free_log_std: the policy has a log_std [act_dim] beside its network.
        squashed: a sampled number u is sent to the environment as tanh(u), stretched
            from (-1, 1) to its bounds.
    """

    distribution: str
    discrete: bool
    free_log_std: bool
    squashed: bool = False

    @property
    def outputs_log_std(self) -> bool:
        """Whether the network puts out log_std, after the mean."""
        return not (self.discrete or self.free_log_std)


LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Bounds of a Gaussian's log standard deviation."""
MASKED, FORCED = -1e9, 1e9
"""Logits of an option that is forbidden, and of a switch that can only be on: exp of
the difference to any real logit is exactly 0, and no infinity can become a NaN."""
GAUSSIAN, GAUSSIAN_STATE_STD = "gaussian", "gaussian_state_std"
SQUASHED_GAUSSIAN = "squashed_gaussian"
SQUASHED_GAUSSIAN_STATE_STD = "squashed_gaussian_state_std"
CATEGORICAL, BERNOULLI = "categorical", "bernoulli"
MIXED, MIXED_STATE_STD = "mixed", "mixed_state_std"
FAMILIES = {
    GAUSSIAN: Family("gaussian:DiagonalGaussian", discrete=False, free_log_std=True),
    GAUSSIAN_STATE_STD: Family(
        "gaussian:DiagonalGaussian", discrete=False, free_log_std=False
    ),
    SQUASHED_GAUSSIAN: Family(
        "squashed_gaussian:SquashedGaussian",
        discrete=False,
        free_log_std=True,
        squashed=True,
    ),
    SQUASHED_GAUSSIAN_STATE_STD: Family(
        "squashed_gaussian:SquashedGaussian",
        discrete=False,
        free_log_std=False,
        squashed=True,
    ),
    CATEGORICAL: Family("categorical:Categorical", discrete=True, free_log_std=False),
    BERNOULLI: Family("bernoulli:Bernoulli", discrete=True, free_log_std=False),
    MIXED: Family("mixed:Mixed", discrete=False, free_log_std=True),
    MIXED_STATE_STD: Family("mixed:Mixed", discrete=False, free_log_std=False),
}
# Those that a Box of actions can have.
PolicyDistribution = Literal[
    "gaussian",
    "gaussian_state_std",
    "squashed_gaussian",
    "squashed_gaussian_state_std",
]
POLICY_DISTRIBUTIONS = get_args(PolicyDistribution)
# Real entries together with choices, and what their reals alone would have.
MIXTURES = {MIXED: GAUSSIAN, MIXED_STATE_STD: GAUSSIAN_STATE_STD}


@dataclasses.dataclass(frozen=True)
class Head:
    """A distribution over actions and its sizes; hashable, so that JAX may jit on it.

    Args:
        act_dim: Entries of an action.
        distribution: A name in `FAMILIES`.
        action_sizes: Options of each entry that is a choice, the last ones.

    Raises:
        ValueError: they do not fit together; the message names the argument.
    """

    act_dim: int
    distribution: str = GAUSSIAN
    action_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_count("act_dim", self.act_dim)
        require_choice("distribution", self.distribution, tuple(FAMILIES))
        object.__setattr__(self, "act_dim", int(self.act_dim))
        object.__setattr__(self, "action_sizes", tuple(map(int, self.action_sizes)))
        counts = {self.act_dim if self.distribution == CATEGORICAL else 0}
        if self.distribution in MIXTURES:
            counts = set(range(1, self.act_dim))
        count = len(self.action_sizes)
        if count not in counts or min(self.action_sizes, default=1) < 1:
            raise ValueError(
                f"`action_sizes`: expected {' or '.join(map(str, counts))} sizes of at "
                f"least 1 for {self.act_dim} entries of {self.distribution!r}, got "
                f"{list(self.action_sizes)}."
            )

    @property
    def family(self) -> Family:
        """The distribution's row in `FAMILIES`."""
        return FAMILIES[self.distribution]

    @property
    def output_dim(self) -> int:
        """Numbers that the network puts out for one observation."""
        if self.distribution == BERNOULLI:
            return self.act_dim
        return self.real_outputs + sum(self.action_sizes)

    @functools.cached_property
    def reals(self) -> int:
        """Entries of an action that are real numbers, the first ones."""
        return (self.act_dim - len(self.action_sizes)) * (not self.family.discrete)

    @property
    def of_reals(self) -> str:
        """Their distribution, one of `POLICY_DISTRIBUTIONS`; the default if none."""
        plain = MIXTURES.get(self.distribution, self.distribution)
        return plain if plain in POLICY_DISTRIBUTIONS else GAUSSIAN

    @property
    def real_outputs(self) -> int:
        """Numbers that the network puts out for them: mean, and log_std if it does."""
        return self.reals * (2 if self.family.outputs_log_std else 1)

    def draw_noise(self, generator: np.random.Generator, rows: int) -> np.ndarray:
        """Noise from which `rows` actions are sampled: [rows, act_dim], float64."""
        if self.reals == self.act_dim:
            return generator.standard_normal((rows, self.act_dim))
        choices = generator.random((rows, self.act_dim - self.reals))
        if not self.reals:
            return choices
        normal = generator.standard_normal((rows, self.reals))
        return np.concatenate([normal, choices], axis=1)

    def check_bounds(self, low: np.ndarray, high: np.ndarray) -> None:
        """Raise ValueError unless actions can have these bounds, [act_dim] each."""
        if self.family.squashed and not np.isfinite([low, high]).all():
            raise ValueError(
                "`action_low`, `action_high`: expected finite numbers, as "
                f"{self.distribution!r} needs, got {low} and {high}. 'gaussian' and "
                "'gaussian_state_std' do without."
            )

    @property
    def options(self) -> tuple[int, ...]:
        """Options of each choice; none where actions are real numbers.

        A mask has a column for each: those of all choices in turn, of a switch off
        before on.
        """
        return self.action_sizes or (2,) * self.act_dim * self.family.discrete

    def flat_mask(self, mask: Any) -> np.ndarray:
        """The mask of one action, [sum(options)] bool, from an environment's.

        Args:
            mask: One array of that many entries in any shape, or a sequence of one
                array for each choice, as Gymnasium's `sample` takes.

        Raises:
            ValueError: it has another number of entries, or one is neither 0 nor 1.
        """
        parts = mask if isinstance(mask, list | tuple) else [mask]
        flat = np.concatenate([np.reshape(part, -1) for part in parts])
        if flat.size != sum(self.options) or not np.isin(flat, (0, 1)).all():
            raise ValueError(
                f"`action_mask`: expected {sum(self.options)} entries, 0 or 1, one for "
                f"each option of {self.distribution!r} actions, got {mask!r}."
            )
        return flat.astype(bool)

    def check_mask(self, name: str, mask: np.ndarray) -> None:
        """Raise ValueError unless `mask` [N, sum(options)] leaves each choice one."""
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(f"`{name}`: expected 0 and 1 alone.")
        for j, part in enumerate(np.split(mask, np.cumsum(self.options)[:-1], axis=1)):
            closed = ~part.any(axis=1)
            if closed.any():
                raise ValueError(
                    f"`{name}`: expected at least one allowed option of each choice, "
                    f"got none of choice {j} in row {int(closed.argmax())}."
                )

    def check_actions(
        self, name: str, actions: np.ndarray, mask: np.ndarray | None = None
    ) -> None:
        """Raise ValueError unless each of `actions` [N, act_dim] can be taken."""
        if not self.options:
            return
        options, actions = np.array(self.options), actions[:, self.reals :]
        bad = (actions < 0) | (actions >= options) | (actions != np.floor(actions))
        if bad.any():
            row, entry = map(int, np.argwhere(bad)[0])
            raise ValueError(
                f"`{name}`: expected a whole number from 0 to {options[entry] - 1}, "
                f"got {actions[row, entry]} at index {[row, self.reals + entry]}."
            )
        if mask is None:
            return
        columns = actions.astype(np.int64) + np.cumsum((0, *options[:-1]))
        forbidden = ~np.take_along_axis(mask != 0, columns, axis=1)
        if forbidden.any():
            row, entry = map(int, np.argwhere(forbidden)[0])
            raise ValueError(
                f"`{name}`: expected an option that the action mask allows, got "
                f"{actions[row, entry]} at index {[row, self.reals + entry]}."
            )
