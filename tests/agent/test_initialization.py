"""Initial weights: orthogonal, of the stated gains, the same for either backend."""

import numpy as np
import pytest
import torch
from flax import nnx

from trpo.common.random_streams import Purpose, RandomStream
from trpo.spaces.action_heads import Head
from trpo.spaces.initialization import initial_weights, mlp_weights, orthogonal


# First entries for seed 3. If these change, so does every run.
GOLDEN = {
    "policy.layers.0.weight": -1.3387930293731738,
    "policy.layers.1.weight": -0.006883209576567957,
    "value.layers.0.weight": 0.09611950474162538,
    "value.layers.1.weight": 0.6170683962202774,
}


def generator(counter: int = 0) -> np.random.Generator:
    return RandomStream(0, Purpose.PROBE).at(counter)


@pytest.mark.parametrize("gain", [0.01, 1.0, 2.0**0.5])
@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (3, 7), (7, 3), (1, 4), (4, 1)])
def test_rows_or_columns_are_orthogonal_of_norm_gain(rows, columns, gain):
    matrix = orthogonal(generator(), rows, columns, gain)
    assert matrix.shape == (rows, columns)
    gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    np.testing.assert_allclose(
        gram, gain**2 * np.eye(min(rows, columns)), atol=1e-14 * gain**2, rtol=1e-13
    )


def test_orthogonal_matrices_are_uniform():
    matrices = np.array([orthogonal(generator(i), 3, 3, 1.0) for i in range(4000)])
    # Uniform on the orthogonal group: every entry has mean 0, second moment 1/3, and
    # half the determinants are negative. QR without fixed signs fails all of these.
    assert np.abs(matrices.mean(axis=0)).max() < 0.05
    np.testing.assert_allclose((matrices**2).mean(axis=0), 1 / 3, atol=0.03)
    assert abs((np.linalg.det(matrices) < 0).mean() - 0.5) < 0.04


def weights(seed: int = 3, **changes) -> dict[str, np.ndarray]:
    sizes = {
        "obs_dim": 3,
        "head": Head(2),
        "policy_layer_sizes": (4, 5),
        "critic_layer_sizes": (6,),
        "initial_log_std": -0.5,
    }
    return initial_weights(**(sizes | changes), seed=seed)


def test_names_shapes_gains_and_zero_biases():
    found = weights()
    assert {name: array.shape for name, array in found.items()} == {
        "policy.log_std": (2,),
        "policy.layers.0.weight": (4, 3),
        "policy.layers.0.bias": (4,),
        "policy.layers.1.weight": (5, 4),
        "policy.layers.1.bias": (5,),
        "policy.layers.2.weight": (2, 5),
        "policy.layers.2.bias": (2,),
        "value.layers.0.weight": (6, 3),
        "value.layers.0.bias": (6,),
        "value.layers.1.weight": (1, 6),
        "value.layers.1.bias": (1,),
    }
    assert all(array.dtype == np.float64 for array in found.values())
    assert all((a == 0).all() for name, a in found.items() if name.endswith("bias"))
    assert (found["policy.log_std"] == -0.5).all()
    gains = {
        name: np.linalg.svd(array, compute_uv=False)
        for name, array in found.items()
        if name.endswith("weight")
    }
    expected = dict.fromkeys(gains, 2.0**0.5)
    expected |= {"policy.layers.2.weight": 0.01, "value.layers.1.weight": 1.0}
    for name, gain in expected.items():
        np.testing.assert_allclose(gains[name], gain, rtol=1e-13)


def test_reproducible_and_different_by_seed_layer_and_network():
    assert all((weights()[n] == a).all() for n, a in weights().items())
    other = weights(seed=4)
    for name, array in weights().items():
        assert (array == other[name]).all() == (not name.endswith("weight")), name
    square = weights(policy_layer_sizes=(3, 3), critic_layer_sizes=(3, 3))
    hidden = [
        square[f"{network}.layers.{i}.weight"]
        for network in ("policy", "value")
        for i in (0, 1)
    ]
    for i, one in enumerate(hidden):
        for another in hidden[i + 1 :]:
            assert not np.allclose(np.abs(one), np.abs(another))


def test_a_layer_does_not_depend_on_the_layers_after_it():
    stream = RandomStream(0, Purpose.PROBE)
    short, long = (
        mlp_weights(stream, (3, 4, 2), 1.0),
        mlp_weights(stream, (3, 4, 4, 2), 1),
    )
    assert (short["layers.0.weight"] == long["layers.0.weight"]).all()


def test_golden_entries():
    found = weights(policy_layer_sizes=(4,), critic_layer_sizes=(5,))
    for name, number in GOLDEN.items():
        np.testing.assert_allclose(found[name].flat[0], number, rtol=1e-12)


def moments(array: np.ndarray) -> list[float]:
    """Mean, deviation, kurtosis and largest entry."""
    scaled = (array - array.mean()) / array.std()
    return [array.mean(), array.std(), (scaled**4).mean(), np.abs(array).max()]


def test_torch_s_and_flax_s_own_layers_have_the_same_distribution():
    stream = RandomStream(0, Purpose.PROBE)
    sizes = (300, 400, 2)
    ours = {k: mlp_weights(stream, sizes, 1.0, k) for k in ("torch", "flax")}
    layer = torch.nn.Linear(300, 400)
    theirs = {
        "torch": (layer.weight.detach().numpy(), layer.bias.detach().numpy()),
        "flax": (np.array(nnx.Linear(300, 400, rngs=nnx.Rngs(0)).kernel[...]),
                 np.zeros(400)),
    }  # fmt: skip
    for kind, (weight, bias) in theirs.items():
        found = ours[kind]
        # 120,000 draws: the kurtosis, 1.8 or 2.4, is known to a hundredth.
        np.testing.assert_allclose(
            moments(found["layers.0.weight"]), moments(weight), rtol=0.015, atol=5e-4
        )
        np.testing.assert_allclose(found["layers.0.bias"].std(), bias.std(), rtol=0.1)
        assert found["layers.1.weight"].shape == (2, 400)


@pytest.mark.parametrize("kind", ["torch", "flax"])
def test_a_framework_s_initialization_reaches_every_layer_and_keeps_log_std(kind):
    head = Head(2, "gaussian_state_std")
    found, plain = weights(head=head, initialization=kind), weights(head=head)
    assert found.keys() == plain.keys()
    for name in (n for n in found if n.endswith("weight")):
        assert np.abs(found[name]).max() > 0.1, name
    np.testing.assert_array_equal(found["policy.layers.2.bias"][2:], [-0.5, -0.5])
