"""PyTorch backend of `trpo`: the reference."""

from trpo_torch.agent import TRPOAgent as TRPOAgent


__all__ = ["TRPOAgent"]
