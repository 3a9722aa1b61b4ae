"""The configuration: typed, with defaults; from files, variables and flags, each over the one before.

In: the path of a YAML file, the environment, flags. Out: a frozen `Config`, and where each of its
values came from. Raises `ConfigurationError` that names file and key of everything that is wrong.
"""

from sensor.config.load import effective_config, load_config
from sensor.config.merge import Effective, Layer, Origin
from sensor.config.schema import (
    Alerts,
    Config,
    Containers,
    Kernel,
    Metrics,
    Protect,
    Redaction,
    Respond,
    Section,
    Spool,
    Store,
)

__all__ = [
    "Alerts",
    "Config",
    "Containers",
    "Effective",
    "Kernel",
    "Layer",
    "Metrics",
    "Origin",
    "Protect",
    "Redaction",
    "Respond",
    "Section",
    "Spool",
    "Store",
    "effective_config",
    "load_config",
]
