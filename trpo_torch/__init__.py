"""PyTorch backend of `trpo`: the reference."""

from trpo_torch.agent.agent import TRPOAgent as TRPOAgent
from trpo_torch.agent.constrained import ConstrainedTRPOAgent as ConstrainedTRPOAgent
from trpo_torch.agent.recurrent import RecurrentTRPOAgent as RecurrentTRPOAgent


__all__ = ["ConstrainedTRPOAgent", "RecurrentTRPOAgent", "TRPOAgent"]
