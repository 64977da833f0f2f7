"""`optax.rprop` takes the step of the call before: the first moves nothing.

    python -m benchmarks.audit.defects.rprop_one_step_late

Prints the first three updates for the gradients 1, 2 and 3, which by the paper (and
`torch.optim.Rprop`) are -0.1, -0.12 and -0.144. `scale_by_rprop` returns its state's
`prev_updates` in place of the new ones.
"""

import jax.numpy as jnp
import optax


def main() -> None:
    """Three updates."""
    optimizer = optax.rprop(0.1)
    state = optimizer.init(jnp.zeros(()))
    for gradient in (1.0, 2.0, 3.0):
        update, state = optimizer.update(jnp.array(gradient), state)
        print(f"{update:.3f}")


if __name__ == "__main__":
    main()
