"""TF32 simulated on a CPU: the operands of torch's matrix products are rounded."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


FLOAT32_BITS = 23
PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm)


class RoundedProducts(TorchDispatchMode):
    """Inside, each float32 matrix product rounds its operands to `bits` bits.

    Args:
        bits: bits behind the point: 10 is TF32, 7 bfloat16.
    """

    def __init__(self, bits: int = 10) -> None:
        super().__init__()
        self.bits = bits
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket in PRODUCTS:
            # The summand of `addmm` is added in float32.
            summand, factors = args[:-2], args[-2:]
            self.count += 1
            args = (*summand, *(self._rounded(factor) for factor in factors))
        return func(*args, **kwargs)

    def _rounded(self, factor: Tensor) -> Tensor:
        if factor.dtype != torch.float32:
            return factor
        drop = FLOAT32_BITS - self.bits
        bits = factor.view(torch.int32)
        # To nearest: half of the last kept bit is added, the rest cut off.
        kept = (bits + ((1 << drop) >> 1)) & ~((1 << drop) - 1)
        return kept.view(torch.float32)
