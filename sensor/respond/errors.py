"""What can go wrong when a container is to be isolated."""

from sensor.errors import SensorError


class ResponseError(SensorError):
    """The action was refused, or the engine did not do it; the message says why and what now holds."""
