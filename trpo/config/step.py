"""What a configuration says of an update: options, and numbers.

Options decide what is computed: names, counts, sizes. Numbers go into it, and any other
of them makes the same program: JAX compiles once for all agents of equal options.
"""

from typing import Any, NamedTuple


class StepOptions(NamedTuple):
    """What decides the program of an update; hashable. See `TRPOConfig`'s fields.

    Attributes:
        with_entropy: whether `entropy_coefficient` is above 0.
        with_momentum: whether `sgd_momentum` is above 0, which takes slots.
    """

    cg_iters: int
    backtrack_iters: int
    line_search: str
    fisher_product: str
    fisher_every: int
    value_epochs: int
    value_minibatch_size: int
    optimizer_type: str
    share_encoder: bool
    batch_chunk_size: int | None
    matmul_precision: str
    with_entropy: bool
    with_momentum: bool

    @classmethod
    def of(cls, config: Any) -> "StepOptions":
        """The options of a `TRPOConfig`."""
        derived = [config.entropy_coefficient > 0.0, config.sgd_momentum > 0.0]
        return cls._make([getattr(config, name) for name in cls._fields[:-2]] + derived)


class StepNumbers(NamedTuple):
    """Numbers of an update, floats or arrays [], under their names in `TRPOConfig`."""

    target_kl: Any
    value_lr: Any
    gamma: Any
    gae_lambda: Any
    cg_damping: Any
    cg_residual_tol: Any
    backtrack_coeff: Any
    entropy_coefficient: Any
    max_grad_norm: Any
    sgd_momentum: Any

    @classmethod
    def of(cls, config: Any) -> "StepNumbers":
        """The numbers of a `TRPOConfig`."""
        return cls(*(getattr(config, name) for name in cls._fields))


MEMBERS_OWN = (*StepNumbers._fields, "initial_log_std")
"""Fields of `TRPOConfig` that members of one compiled run may differ in."""
