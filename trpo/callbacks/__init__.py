"""User code that watches, writes and stops during training."""

from trpo.callbacks.base import Callback as Callback, Run as Run, Stop as Stop
