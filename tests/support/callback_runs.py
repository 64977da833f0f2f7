"""Short runs that tests of callbacks have in common, and callbacks that take notes."""

from trpo.callbacks.base import Callback
from trpo.config.choices import INTERIM_EPISODES
from trpo.config.presets import preset_config
from trpo.runs.checkpoint import load_checkpoint


SMALL = {
    "num_envs": 2,
    "rollout_steps": 32,
    "total_steps": 6 * 64,
    "policy_layer_sizes": (8,),
    "critic_layer_sizes": (8,),
    "value_epochs": 2,
    "eval_episodes": 0,
    "eval_interval": 2,
    "checkpoint_interval": 3,
}


def small(**overrides):
    return preset_config("CartPole-v1", **{"backend": "torch", **SMALL, **overrides})


class Diary(Callback):
    """Notes what it was told, and answers what it is asked to."""

    def __init__(self, answers=None):
        self.notes, self.answers = [], answers or {}

    def _note(self, *note):
        self.notes.append(note)
        return self.answers.get(note)

    def on_start(self, run):
        self._note("start")

    def on_rollout(self, rollout):
        assert rollout.rewards.shape == (32, 2)
        return self._note("rollout")

    def on_update(self, progress):
        assert ("evaluation/return_mean" in progress.metrics) == (
            progress.update % 2 == 0
        )
        return self._note("update", progress.update)

    def on_evaluation(self, progress, result):
        assert len(result.returns) == INTERIM_EPISODES
        assert progress.metrics["evaluation/return_mean"] == result.mean
        return self._note("evaluation", progress.update)

    def on_checkpoint(self, progress, path):
        assert load_checkpoint(path).step == progress.step
        return self._note("checkpoint", progress.update)

    def on_end(self):
        self._note("end")


class Counter(Diary):
    """Has state."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_update(self, progress):
        self.seen.append(progress.metrics["policy/kl"])

    def get_state(self):
        return {"seen": self.seen}

    def set_state(self, state):
        self.seen = list(state["seen"])


def updates(first, last):
    for update in range(first, last + 1):
        yield from (("rollout",), ("update", update))
        if update % 2 == 0:
            yield ("evaluation", update)
        if update % 3 == 0 or update == last:
            yield ("checkpoint", update)
