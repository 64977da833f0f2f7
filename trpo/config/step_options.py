"""Options of the policy step that not every agent can have, and thinned batches."""

from trpo.config.run import TRPOConfig
from trpo.data.batch import Batch
from trpo.spaces.architecture import NONE


def require_step_options(config: TRPOConfig) -> None:
    """Raise ValueError unless an agent can have the step that is configured."""
    if config.recurrent != NONE and config.fisher_every > 1:
        raise ValueError(
            "`fisher_every`: expected 1 for a recurrent agent, whose samples are steps "
            f"of whole sequences, got {config.fisher_every}. Leave it out, or lower "
            "`cg_iters`."
        )

    if config.batch_chunk_size is not None:
        _require_chunkable(config)


def _require_chunkable(config: TRPOConfig) -> None:
    for name, only in (("recurrent", NONE), ("cost_limit", None)):
        if (value := getattr(config, name)) != only:
            raise ValueError(
                f"`batch_chunk_size`: expected None with {name} = {value!r}, whose "
                f"samples are not divided, got {config.batch_chunk_size}."
            )


def thinned(batch: Batch, every: int) -> Batch:
    """Every k-th sample of a batch, the first one included."""
    return Batch(*(None if field is None else field[::every] for field in batch))
