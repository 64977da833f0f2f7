"""PyTorch backend of `trpo`: the reference."""

from trpo.common.framework_settings import let_threads_sleep


# Before anything imports PyTorch.
let_threads_sleep()

from trpo_torch.agent.agent import TRPOAgent as TRPOAgent  # noqa: E402
from trpo_torch.agent.constrained import (  # noqa: E402
    ConstrainedTRPOAgent as ConstrainedTRPOAgent,
)
from trpo_torch.agent.recurrent import (  # noqa: E402
    RecurrentTRPOAgent as RecurrentTRPOAgent,
)


__all__ = ["ConstrainedTRPOAgent", "RecurrentTRPOAgent", "TRPOAgent"]
