"""What can go wrong with the store, each as one sentence for its reader."""

from __future__ import annotations

from sensor.errors import SensorError


class StoreError(SensorError):
    """The store cannot be read or written just now."""


class StoreMissingError(StoreError):
    """There is no store at this place, or this user may not read it."""


class AlertNotFoundError(StoreError):
    """No alert has this id, or several begin with it."""
