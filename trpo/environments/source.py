"""What environments are made by, with the settings that say what an agent sees."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from trpo.common.user_modules import import_modules, module_of
from trpo.common.validation import shown
from trpo.config.run import TrainConfig
from trpo.environments.action_masks import INFO
from trpo.environments.ids import registered


@dataclasses.dataclass(frozen=True)
class EnvironmentSource:
    """How one environment is made, the same each time.

    Args:
        env: Gymnasium id, its registered specification, a function that makes an
            environment, or one that is made.
        modules: The user's code, imported first.
        omit_observations: See `TrainConfig`.
        action_masks: Likewise.
        env_kwargs: Likewise.
        wrapper_class: Likewise; or the class itself, or any function from one
            environment to another.
    """

    env: str | EnvSpec | gymnasium.Env | Callable[..., Any]
    modules: tuple[str, ...] = ()
    omit_observations: tuple[str, ...] = ()
    action_masks: str = INFO
    env_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wrapper_class: str | Callable[[Any], Any] | None = None

    @classmethod
    def of(cls, env: Any) -> "EnvironmentSource":
        """Of a run's configuration, or of anything that makes an environment.

        Raises:
            ValueError: it is none of these.
        """
        if isinstance(env, EnvironmentSource):
            return env
        if isinstance(env, TrainConfig):
            return cls(
                env.env_id,
                env.modules,
                env.omit_observations,
                env.action_masks,
                env.env_kwargs,
                env.wrapper_class,
            )
        if isinstance(env, str | EnvSpec | gymnasium.Env) or callable(env):
            return cls(env)
        raise ValueError(
            "`env`: expected the id of an environment, a function that makes one, or "
            f"a gymnasium.Env, got {shown(env)}."
        )

    @classmethod
    def of_run(cls, config: TrainConfig, env: Any = None) -> "EnvironmentSource":
        """Of a run's configuration, with `env` in place of its id if there is one."""
        source = cls.of(config)
        if env is None:
            return source
        return dataclasses.replace(source, env=cls.of(env).env)

    @property
    def name(self) -> str:
        """The id, or what else names it."""
        if isinstance(self.env, str):
            return self.env
        spec = self.env if isinstance(self.env, EnvSpec) else None
        if isinstance(self.env, gymnasium.Env):
            spec = self.env.unwrapped.spec
        if spec is not None:
            return spec.id
        named = self.env if hasattr(self.env, "__qualname__") else type(self.env)
        return str(getattr(named, "__qualname__", named))

    def resolved(self) -> "EnvironmentSource":
        """With an id's specification in its place, for a process that lacks it.

        Raises:
            UnknownEnvironmentError: see `registered`.
        """
        if not isinstance(self.env, str):
            return self
        module = module_of(self.env)
        modules = self.modules if module is None else (*self.modules, module)
        env = registered(self.env)
        return dataclasses.replace(self, env=env, modules=modules)

    def wrapper(self) -> Callable[[Any], Any] | None:
        """What is put round each environment; of a name only a class of Gymnasium's.

        A name may be a stranger's, who could have any function called.

        Raises:
            ValueError: it names no wrapper.
        """
        if not isinstance(self.wrapper_class, str):
            return self.wrapper_class
        module, _, name = self.wrapper_class.partition(":")
        import_modules([module])
        found = getattr(sys.modules[module], name, None)
        if isinstance(found, type) and issubclass(found, gymnasium.Wrapper):
            return found
        raise ValueError(
            f"`wrapper_class`: expected module:Class of a gymnasium.Wrapper, got "
            f"{shown(self.wrapper_class)}."
        )
