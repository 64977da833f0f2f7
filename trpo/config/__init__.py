"""Every setting, what it may be, what can be combined; presets with their reasons."""

from trpo.config.agent import TRPOConfig as TRPOConfig
from trpo.config.run import TrainConfig as TrainConfig
