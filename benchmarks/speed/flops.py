"""Arithmetic and memory traffic that one TRPO update needs; derived in the README.

Counted is the nominal work of the algorithm, whoever computes it: matrix products
only, two operations for each multiply-add, nothing that could be reused twice.
"""

import itertools
from typing import NamedTuple

from benchmarks.speed.problems import Size


FLOAT_BYTES = 4


class Work(NamedTuple):
    """What a computation needs.

    Attributes:
        flops: floating-point operations.
        traffic: bytes read and written.
    """

    flops: float
    traffic: float

    def plus(self, other: "Work", times: float = 1.0) -> "Work":
        """The sum of this and `times` another."""
        return Work(
            self.flops + times * other.flops, self.traffic + times * other.traffic
        )

    def seconds(self, peak_flops: float, bandwidth: float) -> float:
        """Least time on a machine: the roofline.

        Args:
            peak_flops: operations per second.
            bandwidth: bytes per second.
        """
        return max(self.flops / peak_flops, self.traffic / bandwidth)


def weights(widths: tuple[int, ...]) -> int:
    """Entries P of all weight matrices of an MLP with these widths."""
    return sum(a * b for a, b in itertools.pairwise(widths))


def forward(samples: int, widths: tuple[int, ...]) -> Work:
    """Outputs of an MLP: reads the input, writes each layer's output."""
    return Work(
        2.0 * samples * weights(widths), FLOAT_BYTES * samples * float(sum(widths))
    )


def backward(samples: int, widths: tuple[int, ...]) -> Work:
    """J'u: weight gradients of all layers, input gradients of all but the first."""
    first = widths[0] * widths[1]
    return Work(
        2.0 * samples * (2 * weights(widths) - first),
        FLOAT_BYTES * samples * float(sum(widths)),
    )


def fisher_product(samples: int, widths: tuple[int, ...]) -> Work:
    """J'M J v: a tangent pass and its transpose, over activations read once."""
    # The tangent pass has the products of the backward pass, transposed.
    both_ways = 2.0 * backward(samples, widths).flops
    return Work(both_ways, FLOAT_BYTES * samples * float(sum(widths)))


def policy_step(size: Size, cg_iterations: int, candidates: int) -> Work:
    """Surrogate and gradient, conjugate gradient, and the line search's forwards.

    Args:
        size: Sizes of the update.
        cg_iterations: Fisher products.
        candidates: Line-search candidates evaluated.
    """
    widths = size.policy_widths
    one_forward = forward(size.samples, widths)
    work = one_forward.plus(backward(size.samples, widths))
    work = work.plus(fisher_product(size.samples, widths), cg_iterations)
    return work.plus(one_forward, candidates)


def critic_fit(size: Size, epochs: int) -> Work:
    """Loss and gradient of each minibatch in each epoch, and one evaluation.

    A minibatch's activations stay in cache, so an epoch reads observations and
    returns only.
    """
    widths = (size.obs_dim, *size.layers, 1)
    flops = forward(size.samples, widths).flops + backward(size.samples, widths).flops
    traffic = FLOAT_BYTES * size.samples * float(size.obs_dim + 1)
    return (
        Work(0.0, 0.0)
        .plus(Work(flops, traffic), epochs)
        .plus(Work(forward(size.samples, widths).flops, traffic))
    )


def update(size: Size, cg_iterations: int, candidates: int, epochs: int) -> Work:
    """One whole update."""
    return policy_step(size, cg_iterations, candidates).plus(critic_fit(size, epochs))
