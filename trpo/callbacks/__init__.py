"""Callbacks: log, evaluate, save, stop during training."""

from trpo.callbacks.base import Callback as Callback, Run as Run, Stop as Stop
