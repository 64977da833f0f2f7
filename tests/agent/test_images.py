"""Observations that are images, or have them: encoded, never normalised."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv
from torch import nn

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
from tests.support.agents import BACKENDS, agent_module, fingerprint
from tests.support.counting_environments import Gallery, Spot
from tests.support.training_runs import learn
from trpo.agent.make import make_agent
from trpo.common.random_streams import episode_seed
from trpo.config.presets import preset_config
from trpo.environments.make import make_environment, make_vector_environment
from trpo.rollout.collector import RolloutCollector
from trpo.spaces.action_heads import Head
from trpo.spaces.architecture import Architecture, Image
from trpo.spaces.initialization import initial_weights
from trpo.spaces.observations import flattened, images_of
from trpo.spaces.spaces import UnsupportedSpaceError, policy_spec
from trpo_jax.agent.state import load_network, network_arrays
from trpo_jax.loop.environment import FunctionalEnvironment
from trpo_jax.networks.encoder import Encoder as JaxEncoder
from trpo_torch.devices.device import matmul_precision
from trpo_torch.networks.encoder import Encoder as TorchEncoder


ENV_ID = "TrpoTest/Spot-v0"
SETTINGS = {
    "num_envs": 8, "rollout_steps": 32, "policy_layer_sizes": (16,),
    "critic_layer_sizes": (16,), "gamma": 0.1, "target_kl": 0.05,
    "cg_damping": 0.01, "cg_iters": 5, "value_epochs": 2,
}  # fmt: skip


def pixels(shape):
    return spaces.Box(0, 255, shape, np.uint8)


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((84, 84, 4), Image(0, 84, 84, 4)),
        ((4, 84, 84), Image(0, 84, 84, 4, channels_first=True)),
        ((210, 160, 3), Image(0, 210, 160, 3)),
        ((10, 10, 10), Image(0, 10, 10, 10)),
        ((8, 9), Image(0, 8, 9, 1)),
    ],
)
def test_the_axis_shorter_than_both_others_is_the_channels(shape, image):
    assert images_of(pixels(shape)) == (image,)
    assert image.shape == (*shape, 1)[:3]
    assert flattened(pixels(shape)) == pixels(shape)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (0, 8, 3)])
def test_stacks_and_empty_images_are_refused(shape):
    for space in (pixels(shape), spaces.Dict(a=pixels(shape))):
        with pytest.raises(UnsupportedSpaceError, match=r"`observation_space`.*uint8"):
            policy_spec(flattened(space), spaces.Discrete(2))


def test_pixels_of_other_numbers_are_vectors():
    space = spaces.Box(0.0, 1.0, (8, 8, 3), np.float32)
    spec = policy_spec(space, spaces.Discrete(2))
    assert (spec.obs_dim, spec.images) == (192, ())
    assert policy_spec(pixels((5,)), spaces.Discrete(2)).images == ()


def test_images_are_found_in_a_flattened_observation():
    env = make_environment("TrpoTest/Gallery-v0", seed=0)
    flat, _ = env.reset()
    spec = policy_spec(env.observation_space, env.action_space)
    first, second = spec.images
    assert flat.shape == (spec.obs_dim,) == (60 + 2 + 60 + 2,)
    # The same seed, so the same question, whole.
    whole, _ = Gallery().reset(seed=episode_seed(env._stream, env_index=0, episode=0))
    np.testing.assert_array_equal(flat[first.part].reshape(first.shape), whole["first"])
    np.testing.assert_array_equal(
        flat[second.part].reshape(second.shape), whole["second"]
    )
    parts = Architecture(images=spec.images).vector_parts(spec.obs_dim)
    numbers = np.concatenate([flat[part] for part in parts])
    np.testing.assert_array_equal(numbers[2:], np.float32(whole["size"][0]))
    assert numbers[whole["reverse"]] == 1.0 != numbers[1 - whole["reverse"]]


def test_a_large_image_has_the_layers_of_mnih_et_al():
    torch.manual_seed(0)
    theirs = nn.Sequential(
        nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512),
        nn.ReLU(),
    )  # fmt: skip
    image = Image(0, 84, 84, 4, channels_first=True)
    ours = TorchEncoder(image)
    ours.load_state_dict(
        dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    )
    batch = torch.randint(0, 256, (2, 4, 84, 84)).float()
    with torch.no_grad():
        want = theirs(batch / 255.0)
        torch.testing.assert_close(ours(batch.reshape(2, -1)), want)
    arrays = {name: a.detach().numpy() for name, a in ours.named_parameters()}
    check_jax_encoder(image, arrays, batch.reshape(2, -1).numpy(), want.numpy())


@pytest.mark.parametrize(
    "image", [Image(0, 6, 7, 3), Image(0, 36, 37, 1), Image(0, 2, 1, 4)], ids=str
)
def test_backends_encode_alike(image):
    weights = initial_weights(
        obs_dim=image.part.stop, head=Head(1), policy_layer_sizes=(2,), seed=1,
        critic_layer_sizes=(2,), initial_log_std=0.0, initialization="torch",
        architecture=Architecture(images=(image,)),
    )  # fmt: skip
    prefix = "value.encoders.0."
    arrays = {
        name.removeprefix(prefix): array.astype(np.float32)
        for name, array in weights.items() if name.startswith(prefix)
    }  # fmt: skip
    ours = TorchEncoder(image)
    ours.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (3, image.part.stop)).astype(np.float32)
    with torch.no_grad():
        want = ours(torch.from_numpy(batch)).numpy()
    assert want.std() > 0.01
    check_jax_encoder(image, arrays, batch, want)


def check_jax_encoder(image, arrays, batch, want):
    """JAX's encoder of these weights puts out `want`, and names them alike."""
    tree = load_network(arrays, "")
    graph, _ = nnx.split(nnx.eval_shape(lambda: JaxEncoder(image)))
    got = nnx.merge(graph, tree)(jnp.asarray(batch))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    named = network_arrays(tree, "")
    assert list(named) == list(arrays)
    assert all((named[name] == array).all() for name, array in arrays.items())


def test_convolutions_have_the_precision_of_products(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    assert torch.backends.cudnn.allow_tf32
    for name, allowed in (("float32", False), ("tf32", True), ("float32", False)):
        with matmul_precision(name):
            assert torch.backends.cudnn.allow_tf32 == allowed
            assert torch.backends.cudnn.enabled
        assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("kind", ["orthogonal", "torch", "flax"])
def test_initial_kernels_are_those_of_the_matrix_that_they_are(kind):
    image = Image(0, 36, 36, 4)
    found = initial_weights(
        obs_dim=image.part.stop, head=Head(1), policy_layer_sizes=(2,), seed=1,
        critic_layer_sizes=(2,), initial_log_std=0.0, initialization=kind,
        architecture=Architecture(images=(image,)),
    )  # fmt: skip
    kernel = found["policy.encoders.0.convs.1.weight"]
    assert kernel.shape == (64, 32, 4, 4)
    matrix, bias = kernel.reshape(64, -1), found["policy.encoders.0.convs.1.bias"]
    if kind == "orthogonal":
        np.testing.assert_allclose(matrix @ matrix.T, 2.0 * np.eye(64), atol=1e-12)
    # In units of 1 over the numbers that each output is made of.
    variance = {"orthogonal": 2.0, "torch": 1.0 / 3.0, "flax": 1.0}[kind]
    assert matrix.var() == pytest.approx(variance / (32 * 4 * 4), rel=0.05)
    assert bias.any() == (kind == "torch")
    assert (kernel != found["value.encoders.0.convs.1.weight"]).any()
    assert found["policy.layers.0.weight"].shape == (2, 512)


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_numbers_are_normalised(backend):
    make = agent_module(backend).TRPOAgent.for_spaces
    options = {"normalize_observations": True, "policy_layer_sizes": (3,),
               "critic_layer_sizes": (3,)}  # fmt: skip
    agent = make(Gallery.observation_space, Gallery.action_space, **options)
    assert agent.get_state()["observation_normalizer.mean"].shape == (4,)
    obs = np.random.default_rng(0).integers(0, 200, (50, 124)).astype(np.float64)
    agent.observe(obs)
    prepared = agent._prepare_obs(obs)
    scaled = np.zeros(124, dtype=bool)
    scaled[[60, 61, 122, 123]] = True
    np.testing.assert_array_equal(prepared[:, ~scaled], obs[:, ~scaled])
    np.testing.assert_allclose(prepared[:, scaled].std(0), 1.0, rtol=1e-5)
    pure = make(Spot.observation_space, Spot.action_space, **options)
    assert pure.observation_normalizer is None


def test_compiled_training_refuses_images():
    class Seen(FuncEnv):
        observation_space = pixels((8, 8, 1))
        action_space = spaces.Discrete(2)

    with pytest.raises(UnsupportedSpaceError, match="no image for compiled training"):
        FunctionalEnvironment(Seen(), 10)


def test_images_within_an_observation_reach_the_agent():
    env = make_vector_environment("TrpoTest/Gallery-v0", 2, seed=0)
    spec = RolloutCollector(env).spec
    assert [image.start for image in spec.images] == [0, 62]
    config = preset_config("TrpoTest/Gallery-v0", backend="torch", **SETTINGS)
    agent = make_agent(config, spec)
    assert agent.backend.architecture.images == spec.images == agent.spec.images
    assert agent.act(env.reset()[0])[0].shape == (2, 1)


def test_rollouts_stay_bytes_and_resume():
    env = make_vector_environment(ENV_ID, 3, seed=0)
    collector = RolloutCollector(env)
    agent = agent_module("torch").TRPOAgent.for_spaces(
        env.single_observation_space, env.single_action_space, policy_layer_sizes=(3,),
        critic_layer_sizes=(3,),
    )  # fmt: skip
    rollout = collector.collect(agent, 6)
    assert (rollout.obs.dtype, rollout.obs.shape) == (np.uint8, (6, 3, 64))
    state = collector.get_state()
    assert state["obs"].dtype == np.uint8
    other = RolloutCollector(make_vector_environment(ENV_ID, 3, seed=0))
    assert other.set_state(state) == ()
    np.testing.assert_array_equal(other.obs, collector.obs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_spot_is_found(tmp_path, backend):
    config = preset_config(ENV_ID, backend=backend, **SETTINGS)
    found = learn(config, 12, tmp_path / "run")
    assert found.before < 0.6 * Spot.best_return
    assert 0.9 * Spot.best_return < found.after <= Spot.best_return
    assert fingerprint(found.loaded) == fingerprint(found.agent)
    assert found.in_other_backend == pytest.approx(found.after, abs=0.05)


@pytest.mark.parametrize(
    "images",
    [
        (Image(0, 3, 3, 1),),
        (Image(-1, 1, 2, 1),),
        (Image(4, 1, 2, 1), Image(0, 1, 2, 1)),
        (Image(0, 0, 2, 1),),
    ],
    ids=str,
)
def test_images_that_are_no_parts_are_refused_by_name(images):
    with pytest.raises(ValueError, match="`images`: expected"):
        agent_module("torch").TRPOAgent(8, 1, -1, 1, "cpu", (2,), (2,), images=images)
