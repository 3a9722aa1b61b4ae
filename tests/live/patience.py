"""How long a test waits for what mostly comes at once: a limit for failures, never a measure of time."""

import os

# A factor. An emulated machine is many times slower than any real one.
PATIENCE = float(os.environ.get("SENSOR_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    return seconds * PATIENCE
