"""PyTorch backend of `trpo`: the reference."""

from trpo.common.framework_settings import limit_spinning


# Before anything imports PyTorch.
limit_spinning()

from trpo_torch.agent.agent import TRPOAgent as TRPOAgent  # noqa: E402
from trpo_torch.agent.constrained import (  # noqa: E402
    ConstrainedTRPOAgent as ConstrainedTRPOAgent,
)
from trpo_torch.agent.recurrent import (  # noqa: E402
    RecurrentTRPOAgent as RecurrentTRPOAgent,
)


__all__ = ["ConstrainedTRPOAgent", "RecurrentTRPOAgent", "TRPOAgent"]
