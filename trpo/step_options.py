"""Options of the policy step that not every agent can have, and thinned batches."""

from trpo.config import TRPOConfig
from trpo.sequences import NONE
from trpo.types import Batch


def require_step_options(config: TRPOConfig) -> None:
    """Raise ValueError unless an agent can have the step that is configured."""
    if config.recurrent != NONE and config.fisher_every > 1:
        raise ValueError(
            "`fisher_every`: expected 1 for a recurrent agent, whose samples are steps "
            f"of whole sequences, got {config.fisher_every}. Leave it out, or lower "
            "`cg_iters`."
        )

    if config.batch_chunk_size is not None and (
        config.recurrent != NONE or config.cost_limit is not None
    ):
        raise ValueError(
            "`batch_chunk_size`: expected None for a recurrent agent or one with a "
            f"`cost_limit`, got {config.batch_chunk_size}."
        )
    if config.cost_limit is not None and config.fisher_every > 1:
        raise ValueError(
            "`fisher_every`: expected 1 with `cost_limit`, whose two directions are of "
            f"all samples, got {config.fisher_every}. Leave one of them out."
        )


def thinned(batch: Batch, every: int) -> Batch:
    """Every k-th sample of a batch, the first one included."""
    return Batch(*(None if field is None else field[::every] for field in batch))
