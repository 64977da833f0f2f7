"""Numbers that callbacks log are in the row of their update, in every file of it."""

import dataclasses

import numpy as np
import pytest

import trpo
from tests.support.callback_runs import small
from tests.support.event_readers import assert_events_are_the_metrics, scalars
from trpo.config.presets import preset_config
from trpo.runs.compiled import compiled_run
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import METRICS, MetricsWriter, read_metrics


BACKENDS = ("torch", "jax")


class Logs(trpo.Callback):
    """Logs from every method, under the name of each."""

    def on_start(self, run):
        self.run = run
        run.log("mine/start", np.float32(0.5))

    def on_rollout(self, rollout):
        self.run.log("mine/rollout", rollout.rewards.sum())

    def on_update(self, progress):
        self.run.log("mine/update", -progress.update)
        progress.metrics["custom/x"] = progress.update / 2
        # The library's own stay what they are.
        progress.metrics["policy/kl"] = 1e9

    def on_evaluation(self, progress, result):
        self.run.log("mine/evaluation", result.mean)

    def on_row(self, progress):
        assert progress.metrics["mine/update"] == -progress.update
        self.rows = [*getattr(self, "rows", []), progress]

    def on_checkpoint(self, progress, path):
        self.run.log("mine/after", progress.update)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_logged_is_in_its_row_in_every_file(tmp_path, backend):
    run, config = tmp_path / "run", small(backend=backend, total_steps=4 * 64)
    trpo.train_run(config, run, callbacks=[logs := Logs()])
    rows = read_metrics(run / METRICS)
    assert [row["mine/update"] for row in rows] == [-1, -2, -3, -4]
    assert [row["custom/x"] for row in rows] == [0.5, 1, 1.5, 2]
    assert [row.get("mine/start") for row in rows] == [0.5, None, None, None]
    assert [row.get("mine/after") for row in rows] == [None, None, None, 3]
    assert [row["mine/rollout"] for row in rows] == [64] * 4
    assert all(row["policy/kl"] < 1 for row in rows)
    for row in rows:
        found = row.get("mine/evaluation"), row.get("evaluation/return_mean")
        assert found[0] == found[1]
    assert [row.metrics["mine/update"] for row in logs.rows] == [-1, -2, -3, -4]
    assert_events_are_the_metrics(run)
    assert "custom/x" in scalars(run / "tensorboard")
    # A resumed run has the columns that there were, and logs on.
    longer = dataclasses.replace(config, total_steps=6 * 64)
    trpo.train_run(longer, run, resume=True, callbacks=[Logs()])
    rows = read_metrics(run / METRICS)
    assert [row["custom/x"] for row in rows] == [0.5, 1, 1.5, 2, 2.5, 3]
    assert rows[4]["mine/start"] == 0.5
    assert_events_are_the_metrics(run)


@pytest.mark.parametrize("members", [1, 2])
def test_members_of_a_compiled_run_log_too(tmp_path, members):
    config = preset_config(
        "phys2d/CartPole-v1", total_steps=4 * 64, num_envs=2, rollout_steps=32,
        eval_episodes=0, eval_interval=2, policy_layer_sizes=(8,),
        critic_layer_sizes=(8,), value_epochs=1,
    )  # fmt: skip
    driver = compiled_run(
        config, tmp_path / "run", members, {}, callbacks=lambda _: [Logs()]
    )
    driver.run(False)
    for member in driver.members:
        rows = read_metrics(member.directory.path / METRICS)
        assert [row["mine/update"] for row in rows] == [-1, -2, -3, -4]
        assert [row.get("mine/start") for row in rows] == [0.5, None, None, None]
        assert rows[1]["mine/evaluation"] == rows[1]["evaluation/return_mean"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("policy/kl", 1.0, "no metric of the library has"),
        ("step", 1.0, "no metric of the library has"),
        ("", 1.0, "the name of a metric"),
        ("a\nb", 1.0, "printable"),
        ("x" * 201, 1.0, "at most 200"),
        (3, 1.0, "the name of a metric"),
        ("custom/x", "text", "`value`: expected a number to log as 'custom/x'"),
        ("custom/x", None, "`value`: expected a number"),
        ("custom/x", np.zeros(2), "`value`: expected a number"),
    ],
)
def test_what_is_no_number_under_a_name_of_one_s_own_is_refused(
    tmp_path, name, value, words
):
    class Wrong(trpo.Callback):
        def on_start(self, run):
            self.run = run

        def on_update(self, progress):
            if progress.update == 2:
                self.run.log(name, value)

    run = tmp_path / "run"
    with pytest.raises(ValueError, match=words):
        trpo.train_run(small(total_steps=3 * 64), run, callbacks=[Wrong()])
    # The row of the update is there, and so is its state.
    assert [row["update"] for row in read_metrics(run / METRICS)] == [1, 2]
    assert RunDirectory(run).load()[0].step == 2 * 64


def test_metrics_that_are_no_numbers_are_refused_where_they_are_written():
    def wrong(progress):
        progress.metrics["custom/x"] = "text"

    trainer = trpo.Trainer(small())
    with pytest.raises(ValueError, match="expected a number to log as 'custom/x'"):
        trainer.run(wrong, num_updates=1)
    trainer.close()


def test_a_trainer_in_memory_logs_into_its_progress_and_goes_on():
    trainer, rows = trpo.Trainer(small()), []
    logs = Logs()
    trainer.run([logs, lambda progress: rows.append(progress)], num_updates=2)
    assert trainer.update_count == 2
    trainer.run([logs, lambda progress: rows.append(progress)],
                num_updates=trainer.update_count + 6)  # fmt: skip
    assert [row.metrics["mine/update"] for row in rows] == [-n for n in range(1, 9)]
    assert rows[0].metrics["mine/start"] == rows[2].metrics["mine/start"] == 0.5
    trainer.close()


def test_names_without_end_are_bounded(tmp_path):
    writer = MetricsWriter(tmp_path, ("step", "update"), 0)
    assert writer.write(1, {"update": 1, **{f"n{i}": i for i in range(990)}}) is None
    refused = writer.write(2, {"update": 2, **{f"m{i}": i for i in range(20)}})
    assert "at most 1,000" in str(refused)
    assert writer.write(3, {"update": 3}) is None
    writer.close()
    assert [row["step"] for row in read_metrics(tmp_path / METRICS)] == [1, 3]
