"""The rows of the grid: what each problem is like, and why it is there."""

import dataclasses
from typing import Any

from trpo.spaces.action_heads import (
    BERNOULLI,
    CATEGORICAL,
    GAUSSIAN,
    GAUSSIAN_STATE_STD,
    MIXED,
    MIXED_STATE_STD,
    SQUASHED_GAUSSIAN,
    Head,
)
from trpo.spaces.architecture import Architecture, Image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the grid.

    Attributes:
        name: how reports call it.
        why: what it is there to show.
        batch: samples.
        obs_dim: entries of an observation.
        act_dim: entries of an action.
        layers: hidden layers of policy and critic; () is a linear policy, which the
            configuration refuses, so its networks are put in place by hand.
        distribution: over actions, a name in `trpo.spaces.action_heads.FAMILIES`.
        action_sizes: options of each choice, where actions are choices.
        masked: whether half of all options can't be taken, at random.
        regime: "fresh", "trained", "saturated", "dead_units", "constant_obs",
            "log_std_low", "log_std_high" or "peaked" (probabilities near 0 and 1).
        advantage_scale: factor of the advantages.
        staleness: standard deviation of the noise on the old log-probabilities.
        nearby: relative size of the parameter change whose KL is taken.
        config: fields of `TRPOConfig` that differ from the grid's defaults.
        updates: whether a step can be compared; not where cond(F) exceeds 1/u.
        quick: whether it belongs to the quick selection.
        images: parts of an observation that are pixels, 0 to 255 in the batch.
        tested: whether the tests run it; the full certificate runs all.
    """

    name: str
    why: str
    batch: int = 33
    obs_dim: int = 5
    act_dim: int = 3
    layers: tuple[int, ...] = (7, 4)
    distribution: str = GAUSSIAN
    action_sizes: tuple[int, ...] = ()
    masked: bool = False
    regime: str = "trained"
    advantage_scale: float = 1.0
    staleness: float = 0.1
    nearby: float = 1e-2
    config: tuple[tuple[str, Any], ...] = ()
    updates: bool = True
    quick: bool = False
    images: tuple[Image, ...] = ()
    tested: bool = True

    @property
    def head(self) -> Head:
        """The distribution and its sizes."""
        choices = self.distribution == CATEGORICAL
        act_dim = len(self.action_sizes) if choices else self.act_dim
        return Head(act_dim, self.distribution, self.action_sizes)

    @property
    def architecture(self) -> Architecture:
        """What both networks are built of, by `config`."""
        names = ("activation", "layer_norm")
        named = {n: v for n, v in self.config if n in names}
        return Architecture(**named, images=self.images)

    @property
    def free_log_std(self) -> int:
        """Entries of the policy's free log_std; 0 where it has none."""
        return self.head.reals * self.head.family.free_log_std

    @property
    def policy_sizes(self) -> tuple[int, ...]:
        """Widths of the policy from input to output."""
        return (self.obs_dim, *self.layers, self.head.output_dim)

    @property
    def critic_sizes(self) -> tuple[int, ...]:
        """Widths of the critic from input to output."""
        return (self.obs_dim, *self.layers, 1)


GRID = (
    Case(name="trained", why="the plain case", quick=True),
    Case(name="fresh", why="initial weights, fresh log-probs", regime="fresh",
         quick=True),
    Case(name="saturated", why="|tanh| near 1", regime="saturated", quick=True),
    Case(name="single_linear", why="one sample, one number in and out, no hidden layer",
         batch=1, obs_dim=1, act_dim=1, layers=()),
    Case(name="pair", why="two samples", batch=2, obs_dim=3, act_dim=1, layers=(5,)),
    Case(name="log_std_high", why="log_std at and above its clamp",
         regime="log_std_high"),
    Case(name="log_std_low", why="log_std at and below its clamp; cond(F) is e^40",
         regime="log_std_low", updates=False),
    Case(name="stale", why="log-probs of a much older policy", staleness=2.0,
         quick=True),
    Case(name="advantages_1e-6", why="tiny advantages", advantage_scale=1e-6),
    Case(name="advantages_1e6", why="huge advantages", advantage_scale=1e6),
    Case(name="advantages_0", why="all advantages zero: no step", advantage_scale=0.0,
         quick=True),
    Case(name="dead_units", why="singular Fisher: units that nothing reads",
         regime="dead_units"),
    Case(name="constant_obs", why="singular Fisher: one observation, repeated",
         regime="constant_obs", quick=True),
    Case(name="kl_1e-8", why="tiny trust region: differences of 1e-4",
         nearby=1e-4, config=(("target_kl", 1e-8),)),
    Case(name="kl_10", why="a trust region where the quadratic model is wrong",
         config=(("target_kl", 10.0), ("backtrack_coeff", 0.5))),
    Case(name="rejected", why="a line search that runs out of candidates",
         config=(("target_kl", 10.0), ("backtrack_iters", 1), ("cg_damping", 1e-3))),
    Case(name="sgd_hessian", why="SGD with momentum; the Hessian of KL",
         config=(("optimizer_type", "sgd"), ("value_lr", 1e-2),
                 ("fisher_product", "kl_hessian"))),
    Case(name="cheetah", why="HalfCheetah's sizes", batch=2048, obs_dim=17, act_dim=6,
         layers=(64, 48), config=(("value_minibatch_size", 256),)),
    Case(name="deep", why="three layers of unequal width", obs_dim=11, act_dim=2,
         layers=(16, 8, 5), staleness=0.0, config=(("cg_iters", 4),)),
    Case(name="humanoid", why="Humanoid's sizes", batch=256, obs_dim=376, act_dim=17,
         layers=(256, 256, 256), config=(("value_minibatch_size", 100),)),
    Case(name="humanoid_2048", why="Humanoid's sizes and batch", batch=2048,
         obs_dim=376, act_dim=17, layers=(256, 256, 256), tested=False,
         config=(("value_minibatch_size", 1024), ("value_epochs", 1))),
    Case(name="choices", why="choices of unequal sizes, one of them no choice",
         distribution=CATEGORICAL, action_sizes=(3, 1, 5)),
    Case(name="choices_peaked", why="options of probability near 0 and 1; far policies",
         distribution=CATEGORICAL, action_sizes=(3, 1, 5), regime="peaked",
         nearby=0.5),
    Case(name="choices_near", why="a policy so near that KL is 1e-9",
         distribution=CATEGORICAL, action_sizes=(3, 1, 5), nearby=1e-4),
    Case(name="cartpole", why="CartPole's sizes, initial weights", batch=512, obs_dim=4,
         layers=(64, 64), distribution=CATEGORICAL, action_sizes=(2,), regime="fresh",
         config=(("value_minibatch_size", 256),)),
    Case(name="switches", why="on or off, four times", act_dim=4,
         distribution=BERNOULLI),
    Case(name="switches_peaked", why="probabilities near 0 and 1; far policies",
         act_dim=4, distribution=BERNOULLI, regime="peaked", nearby=0.5),
    Case(name="masked", why="options that can't be taken, others in each row",
         distribution=CATEGORICAL, action_sizes=(3, 1, 5), masked=True),
    Case(name="switches_masked", why="switches that can't be on, or off", act_dim=4,
         distribution=BERNOULLI, masked=True),
    Case(name="mixed", why="real numbers and choices at once, with masks", act_dim=4,
         distribution=MIXED, action_sizes=(3, 2), masked=True),
    Case(name="mixed_state_std", why="the same with log_std by the network", act_dim=4,
         distribution=MIXED_STATE_STD, action_sizes=(3, 2)),
    Case(name="state_std", why="log_std by the network",
         distribution=GAUSSIAN_STATE_STD),
    Case(name="state_std_high", why="log_std at, above and about its clamp",
         distribution=GAUSSIAN_STATE_STD, regime="log_std_high"),
    Case(name="squashed", why="tanh of a Gaussian", distribution=SQUASHED_GAUSSIAN),
    Case(name="relu", why="slopes of 0 and 1; derivatives by hand",
         config=(("activation", "relu"),)),
    Case(name="elu", why="slopes from values, the Hessian of KL",
         config=(("activation", "elu"), ("fisher_product", "kl_hessian"))),
    Case(name="gelu", why="by erf, not tanh; automatic derivatives",
         config=(("activation", "gelu"),)),
    Case(name="silu_norm", why="layer normalisation; automatic derivatives",
         config=(("activation", "silu"), ("layer_norm", True))),
    Case(name="images", why="small images of either order of axes, between numbers",
         batch=17, obs_dim=2 + 40 + 1 + 24,
         config=(("activation", "silu"), ("layer_norm", True)),
         images=(Image(2, 5, 4, 2), Image(43, 2, 4, 3, channels_first=True))),
    Case(name="critic_clipped", why="Huber's loss, clipped, the whole batch at once",
         config=(("value_loss", "huber"), ("value_clip", 0.02), ("value_epochs", 6),
                 ("value_lr", 0.03), ("value_minibatch_size", 0))),
    Case(name="critic_gauss_newton", why="Gauss-Newton steps on a loss of little use",
         config=(("value_fit", "gauss_newton"), ("value_loss", "huber"),
                 ("value_clip", 0.2))),
    # Its steps' lengths are 1/16 to 4.
    Case(name="critic_lbfgs", why="L-BFGS past kinks", config=(
        ("value_fit", "lbfgs"), ("value_loss", "huber"), ("huber_delta", 0.1),
        ("value_clip", 0.5))),
    Case(name="large_image", why="three convolutions with strides", batch=5,
         obs_dim=2 * 38 * 37, images=(Image(0, 38, 37, 2),)),
    Case(name="step_options", why="Fisher products on a part, an entropy bonus, old "
         "solution and damping, all candidates at once",
         config=(("fisher_every", 3), ("entropy_coefficient", 0.05),
                 ("cg_warm_start", 0.9), ("adaptive_damping", True),
                 ("line_search", "batched"), ("target_kl", 0.5))),
    Case(name="natural", why="no line search; an entropy bonus of choices",
         distribution=CATEGORICAL, action_sizes=(3, 1, 5), masked=True,
         config=(("line_search", "none"), ("entropy_coefficient", 0.05),
                 ("preconditioner", "diagonal"), ("target_kl", 3.0))),
    Case(name="kronecker", why="Kronecker-factored blocks for preconditioner",
         config=(("preconditioner", "kronecker"), ("fisher_every", 2),
                 ("cg_residual_tol", 1e-4))),
)  # fmt: skip

BY_NAME = {case.name: case for case in GRID}
