"""TensorBoard's own readers of a run's events."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.waiting import until
from trpo.runs.metrics import read_metrics


def scalars(directory: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Name -> (step, value, time) of each event, in the order that TensorBoard has."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    sizes = {"scalars": 0, "tensors": 0}
    reader: Any = EventAccumulator(str(directory), size_guidance=sizes)
    reader.Reload()
    # Other programs' scalars may be tensors.
    return {
        tag: [
            (event.step, float(make_ndarray(event.tensor_proto)), event.wall_time)
            for event in reader.Tensors(tag)
        ]
        for tag in reader.Tags()["tensors"]
    } | {
        tag: [
            (event.step, event.value, event.wall_time) for event in reader.Scalars(tag)
        ]
        for tag in reader.Tags()["scalars"]
    }


def scalars_of_server(directory: Path) -> dict[str, list[tuple[int, float, float]]]:
    """The same by TensorBoard's fast data server, a process of its own."""
    import grpc
    import tensorboard_data_server
    from tensorboard import context
    from tensorboard.data import grpc_provider
    from tensorboard.util.grpc_util import ChannelCredsType

    options = ["--port=0", "--reload=once", "--samples-per-plugin=scalars=all"]
    options += [f"--logdir={directory}"]
    with tempfile.TemporaryDirectory() as place:
        port = Path(place) / "port"
        server = subprocess.Popen(
            [tensorboard_data_server.server_binary(), *options, f"--port-file={port}"]
        )
        try:
            until(lambda: port.exists() and port.read_text().endswith("\n"))
            address = f"localhost:{port.read_text().strip()}"
            credentials, _ = ChannelCredsType.LOCAL.channel_config()
            channel = grpc.secure_channel(address, credentials)
            provider = grpc_provider.GrpcDataProvider(
                address, grpc_provider.make_stub(channel)
            )
            found = until(
                lambda: provider.read_scalars(
                    context.RequestContext(),
                    experiment_id="",
                    plugin_name="scalars",
                    downsample=10**6,
                )
            )
            channel.close()
        finally:
            server.kill()
            server.wait()
    (run,) = found.values()
    return {tag: [(e.step, e.value, e.wall_time) for e in run[tag]] for tag in run}


def assert_events_are_the_metrics(run: Path) -> None:
    """Each value of `metrics.csv` is one event, and there is no other."""
    rows = read_metrics(run / "metrics.csv")
    expected = {
        name: [(row["step"], np.float32(row[name])) for row in rows if name in row]
        for name in dict.fromkeys(name for row in rows for name in row)
    }
    del expected["step"]
    found = {
        name: [event[:2] for event in events]
        for name, events in scalars(run / "tensorboard").items()
    }
    for name in sorted({*found, *expected}):
        events, numbers = found.get(name), expected.get(name)
        if name.startswith("evaluation/") and events:
            # The final one may be at the step of the last that was made on the way.
            events = list(dict(events).items())
        assert events == numbers, f"{name}: {events}, in the file {numbers}"
