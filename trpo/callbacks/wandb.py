"""Metrics of each update to Weights & Biases."""

import os
import re
import uuid
from collections.abc import Mapping
from typing import Any

from trpo.callbacks.base import Callback, Run
from trpo.common.files import Folder, absolute
from trpo.common.user_modules import import_wandb


_ID = re.compile("[0-9a-f]{32}")


class WandbWriter(Callback):
    """Logs what `metrics.csv` has to a run of Weights & Biases, a row per update.

    Its step is the environment step. Its state is the run's id, so that a resumed run
    goes on in the same one; rows that it repeats are already there and are ignored.
    `WANDB_MODE=offline` writes to RUN_DIR/wandb/start-N without a network.

    Args:
        project: Name of the project.

    Raises:
        ValueError: the package is missing, or nobody is logged in.
    """

    def __init__(self, project: str) -> None:
        try:
            self._wandb: Any = import_wandb()
        except ImportError as error:
            raise ValueError(
                f'`wandb_project`: {error}. Install it by: pip install "trpo[wandb]".'
            ) from error
        mode = os.environ.get("WANDB_MODE", "online")
        if (
            mode not in ("offline", "disabled", "dryrun")
            and not self._wandb.api.api_key
        ):
            raise ValueError(
                "`wandb_project`: expected to be logged in; call `wandb login`, or set "
                "WANDB_MODE=offline."
            )
        self.project = project
        self.run_id = uuid.uuid4().hex
        self._run: Any = None

    def on_start(self, run: Run) -> None:
        """Open the run, or go on with it."""
        path, place = run.directory, os.environ.get("WANDB_DIR", str(absolute(".")))
        if path is not None:
            with Folder(path) as folder, folder.folder("wandb", make=True) as inside:
                place = str(inside.fresh("start"))
        self._run = self._wandb.init(
            project=self.project,
            id=self.run_id,
            # None: by WANDB_NAME, as the team by WANDB_ENTITY.
            name=None if path is None or "WANDB_NAME" in os.environ else path.name,
            dir=place,
            config=run.config.to_dict(),
            resume="allow",
            # Members of a compiled run have one each.
            reinit="create_new",
        )

    def on_row(self, progress: Any) -> None:
        """Log a row."""
        self._run.log({"update": progress.update, **progress.metrics}, progress.step)

    def on_end(self) -> None:
        """Close the run."""
        if self._run is not None:
            self._run.finish()
            self._run = None

    def get_state(self) -> dict[str, Any]:
        """The run's id."""
        return {"id": self.run_id}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback`."""
        # It becomes part of a file's name.
        if not (isinstance(state["id"], str) and _ID.fullmatch(state["id"])):
            raise ValueError(f"expected an id of 32 hexadecimal digits, got {state}")
        self.run_id = state["id"]
