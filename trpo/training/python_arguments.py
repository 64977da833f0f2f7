"""Arguments of a run that are code or objects, which `config.json` can't hold.

A function or class that can be imported is written there by its name, where a field of
the configuration takes one. Anything else is noted in each checkpoint, by name or as
"given in Python", and whoever goes on with the run gives it again.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from trpo.common.validation import require_choice, shown
from trpo.config.run import TrainConfig
from trpo.config.schedules import SCHEDULED, Schedule, scheduled
from trpo.spaces.user_networks import GIVEN, NETWORKS, is_maker, name_of


NOTE = "given"
"""Key of a checkpoint's metadata under which these are noted."""


@dataclasses.dataclass(frozen=True)
class PythonArguments:
    """What a run is given beside its configuration; None where it is the latter's.

    Attributes:
        env: a function that makes the environment, or one that is made.
        policy_network: a module of the framework, or a function that makes one; see
            `trpo.spaces.user_networks.network_of`.
        value_network: likewise.
        schedules: of `SCHEDULED` of `trpo.config.schedules`, by name.
    """

    env: Any = None
    policy_network: Any = None
    value_network: Any = None
    schedules: Mapping[str, Schedule] | None = None

    def options(self) -> dict[str, Any]:
        """Those that there are, as arguments of a trainer."""
        return {name: one for name, one in vars(self).items() if one is not None}

    def applied(self, config: TrainConfig) -> TrainConfig:
        """The configuration with all that it can hold of these.

        That is names of functions, and what schedules begin with.

        Raises:
            ValueError: a schedule is no function, or fails at the beginning.
        """
        names = {
            name: name_of(network) if is_maker(network) else None
            for name in NETWORKS
            if (network := getattr(self, name)) is not None
        }
        starts = {}
        for name, schedule in (self.schedules or {}).items():
            require_choice("schedules", name, SCHEDULED)
            if not callable(schedule):
                raise ValueError(
                    f"`schedules`: expected a function of the remaining fraction for "
                    f"{name!r}, got {shown(schedule)}."
                )
            if getattr(config, f"final_{name}", None) is not None:
                raise ValueError(
                    f"`schedules`: expected `final_{name}` or a schedule of {name!r}, "
                    "got both."
                )
            starts[name] = scheduled(name, schedule, 1.0)
        if starts.get("entropy_coefficient") == 0.0:
            raise ValueError(
                "`schedules`: expected an `entropy_coefficient` above 0 at the "
                "beginning, which decides that entropy is computed, got 0."
            )
        agent = dataclasses.replace(config.agent, **starts)
        return dataclasses.replace(config, agent=agent, **names)

    @property
    def _named(self) -> dict[str, Any]:
        return {n: one for n, one in self.options().items() if n != "schedules"} | {
            f"schedules[{name!r}]": one for name, one in (self.schedules or {}).items()
        }

    def note(self, config: TrainConfig) -> dict[str, dict[str, str]]:
        """What a checkpoint says of those that the configuration does not hold."""
        named = {
            name: name_of(one) or name_of(type(one)) or GIVEN
            for name, one in self._named.items()
            if getattr(config, name, None) is None
        }
        return {NOTE: named} if named else {}

    def missing(self, note: Mapping[str, Any], config: TrainConfig) -> dict[str, str]:
        """What a checkpoint's note names, and nobody has given again.

        Raises:
            ValueError: the note is none.
        """
        # Checkpoints of before noted networks alone.
        networks = note.get("networks", {})
        noted = note.get(NOTE, {})
        for one in (networks, noted):
            texts = isinstance(one, dict) and [*one, *one.values()]
            if texts is False or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"`{NOTE}`: expected names, got {shown(one)}.")
        noted = {f"{name}_network": text for name, text in networks.items()} | noted
        return {
            name: text
            for name, text in noted.items()
            if name not in self._named and getattr(config, name, None) is None
        }
