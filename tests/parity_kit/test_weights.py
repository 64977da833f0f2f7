"""Maps of weights: transforms are each other's inverse; proposals, and refusals."""

import numpy as np
import pytest

from parity_kit import weights


def carried(torch_shape, jax_shape, transform):
    rng = np.random.default_rng(0)
    array = rng.standard_normal(torch_shape)
    mapping = {"a": ("b", transform)}
    out = weights.to_jax({"a": array}, mapping)["b"]
    assert out.shape == jax_shape
    np.testing.assert_array_equal(weights.to_torch({"b": out}, mapping)["a"], array)
    return array, out


@pytest.mark.parametrize(
    ("transform", "torch_shape", "jax_shape"),
    [
        ("same", (3,), (3,)),
        ("transposed", (4, 3), (3, 4)),
        ("convolution", (5, 4, 3, 2), (3, 2, 4, 5)),
        ("convolution", (5, 4, 3), (3, 4, 5)),
        ("transposed convolution", (5, 4, 3, 2), (3, 2, 5, 4)),
        ("flattened:3x4x5", (7, 60), (60, 7)),
        ("heads:2", (6, 5), (5, 2, 3)),
        ("heads:2", (6,), (2, 3)),
        ("out heads:2", (5, 6), (2, 3, 5)),
        ("channels:2", (4,), (4, 1, 1)),
        ("squeezed", (1, 3, 4), (3, 4)),
        ("squeezed", (1,), ()),
        ("unsqueezed", (3,), (1, 3)),
    ],
)
def test_every_transform_has_its_inverse(transform, torch_shape, jax_shape):
    carried(torch_shape, jax_shape, transform)


def test_a_flattened_image_keeps_its_pixels():
    weight, kernel = carried((7, 60), (60, 7), "flattened:3x4x5")
    image = np.random.default_rng(1).standard_normal((3, 4, 5))
    np.testing.assert_allclose(
        weight @ image.reshape(-1), image.transpose(1, 2, 0).reshape(-1) @ kernel
    )


def test_parts_zeros_and_stacks():
    mapping = {
        "qkv": [("q", "transposed"), ("k", "transposed"), ("v", "transposed")],
        "b1": "bias",
        "b2": (None, "zero:6"),
        "blocks.0.w": "blocks.w[0]",
        "blocks.1.w": "blocks.w[1]",
    }
    rng = np.random.default_rng(0)
    shapes = {"qkv": (6, 5), "b1": (6,), "b2": (6,), "blocks.0.w": (2,)}
    shapes["blocks.1.w"] = (2,)
    arrays = {n: rng.standard_normal(s) for n, s in shapes.items()}
    ours = weights.to_jax(arrays, mapping)
    assert {n: a.shape for n, a in ours.items()} == {
        "q": (5, 2), "k": (5, 2), "v": (5, 2), "bias": (6,), "blocks.w": (2, 2),
    }  # fmt: skip
    weights.check(mapping, shapes, {n: a.shape for n, a in ours.items()})
    back = weights.to_torch(ours, mapping)
    assert not back.pop("b2").any()
    for name, array in back.items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"a": ("b", "turned")}, "'turned'.*known transform.*'transposed'"),
        ({"a": ("b", "heads:5"), "c": "c"}, "does not fit"),
        ({"a": ("b", "transposed")}, "'c' of PyTorch has no entry"),
        ({"a": "b", "c": "c"}, r"'b' has shape \[3, 2\].*gives \[2, 3\]"),
        ({"a": ("b", "transposed"), "c": "b"}, "'b' of JAX is reached twice"),
        ({"a": ("b", "transposed"), "c": (None, "zero:4")}, "'c' of JAX is reached by"),
        ({"a": ("b", "transposed"), "c": "d"}, "JAX has no 'd'"),
        ({"x": "b", "a": "b", "c": "c"}, "PyTorch has no 'x'"),
        ({"a": [("b", "same")] * 4, "c": "c"}, "4 equal parts"),
    ],
)
def test_a_wrong_map_says_what_is_wrong(mapping, message):
    with pytest.raises(ValueError, match=message):
        weights.check(mapping, {"a": (2, 3), "c": (4,)}, {"b": (3, 2), "c": (4,)})


def linear(*sizes, names):
    return {
        f"{name}.{leaf}": shape
        for name, i, o in zip(names, sizes, sizes[1:], strict=False)
        for leaf, shape in (("weight", (o, i)), ("bias", (o,)))
    }


def dense(*sizes, names):
    return {
        f"{name}.{leaf}": shape
        for name, i, o in zip(names, sizes, sizes[1:], strict=False)
        for leaf, shape in (("kernel", (i, o)), ("bias", (o,)))
    }


@pytest.mark.parametrize(
    ("theirs", "ours", "pairs"),
    [
        ("0 2 4", "params.Dense_0 params.Dense_1 params.Dense_2", None),
        ("fc1 fc2 fc3", "linear1 linear2 linear3", None),
        ("net.0 net.2 net.4", "layers.0 layers.2 layers.4", None),
        # Sorted as text, 10 comes before 2.
        ("8 10 12", "Dense_10 Dense_9 Dense_11", "Dense_9 Dense_10 Dense_11"),
        ("query_proj k v", "value query key", "query key value"),
        ("norm.a wq.b fc", "norm_a wq.b dense", None),
    ],
)
def test_layers_of_one_shape_are_told_apart_by_name_and_order(theirs, ours, pairs):
    theirs, ours = theirs.split(), ours.split()
    mapping = weights.infer(
        linear(8, 8, 8, 8, names=theirs), dense(8, 8, 8, 8, names=ours)
    )
    wanted = pairs.split() if pairs else ours
    for their, our in zip(theirs, wanted, strict=True):
        assert mapping[f"{their}.weight"] == (f"{our}.kernel", "transposed")
        assert mapping[f"{their}.bias"] == f"{our}.bias"


@pytest.mark.parametrize(
    ("theirs", "ours", "both"),
    [
        (linear(8, 8, 8, names=["first", "second"]),
         dense(8, 8, 8, names=["alpha", "beta"]),
         "'first.weight' can be .*alpha.* or .*beta"),
        ({"w": (3, 3)}, {"w": (3, 3)}, "'w' can be 'w' or .*transposed"),
        ({"c.weight": (8, 3, 3, 3), "c.bias": (8,), **linear(128, 4, names=["f"])},
         {"c.kernel": (3, 3, 3, 8), "c.bias": (8,), **dense(128, 4, names=["f"])},
         "transposed.* or .*flattened:8x4x4"),
        (linear(8, 8, names=["a"]), dense(8, 9, names=["a"]),
         "no map fits.*PyTorch's a .weight"),
        (linear(8, 8, names=["a"]), {}, "no map fits"),
    ],
)  # fmt: skip
def test_two_fits_or_none_are_refused(theirs, ours, both):
    with pytest.raises(ValueError, match=both):
        weights.infer(theirs, ours)


def test_actor_and_critic_stay_apart():
    theirs = {
        **linear(4, 8, 8, 2, names=["pi.0", "pi.2", "pi.4"]),
        **linear(4, 8, 8, 1, names=["vf.0", "vf.2", "vf.4"]),
    }
    ours = {
        **dense(4, 8, 8, 1, names=[f"critic.layers.{i}" for i in range(3)]),
        **dense(4, 8, 8, 2, names=[f"actor.layers.{i}" for i in range(3)]),
    }
    mapping = weights.infer(theirs, ours)
    assert mapping["pi.2.weight"][0] == "actor.layers.1.kernel"
    assert mapping["vf.2.weight"][0] == "critic.layers.1.kernel"


def test_source_is_python_that_gives_the_map():
    mapping = {"a": ("b", "transposed"), "c": [("d", "same"), "e"], "f": "g"}
    scope = {}
    exec(weights.as_source(mapping), scope)
    assert scope["weights"] == mapping


def test_recurrent_gates_attention_and_statistics():
    lstm = {"rnn.weight_ih_l0": (16, 6), "rnn.weight_hh_l0": (16, 4)}
    lstm |= {"rnn.bias_ih_l0": (16,), "rnn.bias_hh_l0": (16,)}
    gates = {f"rnn.cell.i{g}.kernel": (6, 4) for g in ("i", "f_", "g", "o")}
    gates |= {f"rnn.cell.h{g}.kernel": (4, 4) for g in "ifgo"}
    gates |= {f"rnn.cell.h{g}.bias": (4,) for g in "ifgo"}
    found = weights.infer(lstm, gates)
    weights.check(found, lstm, gates)
    assert found["rnn.bias_ih_l0"] == (None, "zero:16")
    assert found["rnn.weight_ih_l0"] == [
        (f"rnn.cell.i{g}.kernel", "transposed") for g in ("i", "f_", "g", "o")
    ]
    theirs = {"a.in_proj_weight": (18, 6), "a.out_proj.weight": (6, 6)}
    theirs |= {"n.weight": (6,), "n.bias": (6,), "n.running_mean": (6,)}
    theirs |= {"n.running_var": (6,), "n.num_batches_tracked": ()}
    ours = {f"attn.{n}.kernel": (6, 2, 3) for n in ("value", "key", "query")}
    ours |= {"attn.out.kernel": (2, 3, 6), "norm.scale": (6,), "norm.bias": (6,)}
    ours |= {"norm.mean": (6,), "norm.var": (6,)}
    found = weights.infer(theirs, ours)
    weights.check(found, theirs, ours)
    assert found["a.in_proj_weight"] == [
        (f"attn.{n}.kernel", "heads:2") for n in ("query", "key", "value")
    ]
    assert found["n.running_mean"] == "norm.mean"


def test_a_deep_transformer_is_matched_at_once():
    theirs, ours = {}, {}
    for k in range(12):
        names = [f"blocks.{k}.{n}" for n in ("q", "k", "v", "o", "fc1", "fc2")]
        theirs |= linear(*[64] * 7, names=names)
        names = [f"Block_{k}.{n}" for n in ("query", "key", "value", "out")]
        names += [f"Block_{k}.Dense_{i}" for i in range(2)]
        ours |= dense(*[64] * 7, names=names)
    found = weights.infer(theirs, dict(sorted(ours.items())))
    assert found["blocks.10.fc1.weight"][0] == "Block_10.Dense_0.kernel"
    assert found["blocks.2.o.bias"] == "Block_2.out.bias"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("params.Dense_0", "params.Dense_1"),
        # Numbered from the outside in, as linen does for nested calls.
        ("params.Dense_1", "params.Dense_0"),
        ("layers.0", "layers.2"),
        ("layers.0", "layers.1"),
        ("hidden", "out"),
    ],
)
def test_shapes_that_fit_one_way_are_enough(first, second):
    theirs = linear(6, 8, names=["0"]) | linear(8, 3, names=["2"])
    for make in (dense, linear):
        ours = make(6, 8, names=[first]) | make(8, 3, names=[second])
        found = weights.infer(theirs, dict(sorted(ours.items())))
        leaf = "kernel" if make is dense else "weight"
        assert weights.transforms.parts_of(found["0.weight"])[0][0] == f"{first}.{leaf}"
        assert (
            weights.transforms.parts_of(found["2.weight"])[0][0] == f"{second}.{leaf}"
        )


def test_layers_that_compete_for_one_partner_are_named():
    theirs = linear(8, 8, names=["a"]) | linear(8, 8, names=["b"])
    ours = dense(8, 8, names=["x"]) | dense(8, 9, names=["y"])
    with pytest.raises(ValueError, match=r"no layer of PyTorch fits JAX's y \(kernel"):
        weights.infer(theirs, ours)


def test_layouts_are_those_of_the_frameworks():
    import jax
    import torch

    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 4, 7)), rng.standard_normal((4, 5, 3))
    theirs = torch.nn.functional.conv_transpose1d(
        torch.tensor(x), torch.tensor(weight), stride=2
    )
    with jax.enable_x64(True):
        for transform, flag in (("transposed convolution", 0), ("convolution", 1)):
            kernel = weights.to_jax({"w": weight}, {"w": ("k", transform)})["k"]
            ours = jax.lax.conv_transpose(
                x.transpose(0, 2, 1), kernel, (2,), "VALID", transpose_kernel=bool(flag)
            )
            np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 1))
        weight = rng.standard_normal((6, 4, 3))
        kernel = weights.to_jax({"w": weight}, {"w": ("k", "convolution")})["k"]
        ours = jax.lax.conv_general_dilated(
            x.transpose(0, 2, 1), kernel, (1,), "VALID",
            dimension_numbers=("NHC", "HIO", "NHC"),
        )  # fmt: skip
    theirs = torch.nn.functional.conv1d(torch.tensor(x), torch.tensor(weight))
    np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 1))


def test_heads_are_neighbouring_rows():
    rng = np.random.default_rng(0)
    weight, x = rng.standard_normal((6, 5)), rng.standard_normal(5)
    kernel = weights.to_jax({"w": weight}, {"w": ("k", "heads:2")})["k"]
    split = (weight @ x).reshape(2, 3)
    np.testing.assert_allclose(np.einsum("i,ihd->hd", x, kernel), split)
    weight = rng.standard_normal((5, 6))
    kernel = weights.to_jax({"w": weight}, {"w": ("k", "out heads:2")})["k"]
    joined = weight @ split.reshape(6)
    np.testing.assert_allclose(np.einsum("hd,hdo->o", split, kernel), joined)
