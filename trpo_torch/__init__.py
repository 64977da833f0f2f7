"""PyTorch backend of `trpo`: the reference."""

from trpo_torch.agent import TRPOAgent as TRPOAgent
from trpo_torch.constrained_agent import ConstrainedTRPOAgent as ConstrainedTRPOAgent
from trpo_torch.recurrent_agent import RecurrentTRPOAgent as RecurrentTRPOAgent


__all__ = ["ConstrainedTRPOAgent", "RecurrentTRPOAgent", "TRPOAgent"]
