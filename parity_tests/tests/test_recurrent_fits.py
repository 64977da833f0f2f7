"""Every way to fit a recurrent critic, in both backends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests.common.canonical import flatten
from parity_tests.problems import recurrent as recurrent_problems
from trpo_jax.agent import state as jax_state
from trpo_torch.agent import state as torch_state
from trpo_torch.critic import fit_sequences as torch_sequences


@pytest.mark.parametrize(
    "options",
    [
        {"value_fit": "gauss_newton", "value_loss": "huber", "value_clip": 0.3},
        {"value_fit": "lbfgs"},
    ],
    ids=lambda options: options["value_fit"],
)
def test_recurrent_critics_are_fitted_alike(options):
    made = recurrent_problems.build("gru")
    made = made._replace(options=made.options | options)
    torchs, jaxs = (recurrent_problems.agent(name, made) for name in ("torch", "jax"))
    orders = np.zeros((torchs.config.value_epochs, recurrent_problems.ENVS), np.int32)
    batch = torchs._check_batch(made.batch)
    given = (batch, orders, torchs.config)
    found = torch_sequences.fit_recurrent_critic(
        torchs.critic, torchs.value_optimizer, *given
    )
    run = jax.jit(
        lambda critic, batch: jaxs._functions.fit_critic(
            None, critic, jaxs._build_value_optimizer(critic), None, batch=batch,
            orders=jnp.asarray(orders), config=jaxs.config,
        )
    )  # fmt: skip
    new, _, same = run(jaxs.state.critic, jaxs._check_batch(made.batch))
    want = torch_state.network_arrays(torchs.critic, "value.")
    got = jax_state.network_arrays(new, "value.")
    np.testing.assert_allclose(
        flatten(got, "value."), flatten(want, "value."), rtol=1e-9
    )
    np.testing.assert_allclose(same, [float(number) for number in found], rtol=1e-10)
    valid = made.batch["valid"]
    before = made.values(made.weights("value"))[valid] - made.batch["returns"][valid]
    assert float(found.loss) < (before**2).mean()
    assert float(found.mae) < abs(before).mean()
    # Entries that are no samples count for nothing.
    junk = np.where(valid, made.batch["returns"], 7.0)
    again = recurrent_problems.agent("torch", made)
    batch = again._check_batch({**made.batch, "returns": junk})
    given = (batch, orders, torchs.config)
    torch_sequences.fit_recurrent_critic(again.critic, again.value_optimizer, *given)
    for name, array in torch_state.network_arrays(again.critic, "value.").items():
        np.testing.assert_array_equal(array, want[name])
