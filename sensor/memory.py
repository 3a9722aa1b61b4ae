"""What keeps the memory of a process that runs for months small: allocator, collector, imports.

The C library gives each thread an arena of its own and keeps what was freed in it. Under the
interpreter's lock that buys nothing, and each short-lived thread leaves a little more behind. The
collector looks at old objects only when they have grown by a quarter, so that rules which a reload has
replaced, which refer to themselves, would stay for many reloads.
"""

from __future__ import annotations

import ctypes as ct
import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

# <malloc.h>
_M_ARENA_MAX = -8


def use_one_arena() -> bool:
    """Lets all threads share one arena of the C library; before the first thread starts.

    False where the library is not glibc: then all stays as it is.
    """
    library = ct.CDLL(None)
    return hasattr(library, "mallopt") and library.mallopt(_M_ARENA_MAX, 1) == 1


def settle() -> None:
    """Ends what is garbage, gives free memory back, and takes what is left for lasting.

    For moments after which little changes: the start, and a reload. Takes some 20 milliseconds. What
    lasts is not looked at by the collector again until the next call.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """Gives the system back what the C library holds free, such as after a storm.

    Takes about a millisecond, and longer only where there is much to give.
    """
    library = ct.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


@contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """For imports of packages that would take these if they are there, and can do without.

    What is loaded already stays.
    """
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    hidden = [name for name in names if name not in modules]
    for name in hidden:
        modules[name] = None  # how Python marks what is not to be found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that they miss them
            yield
    finally:
        for name in hidden:
            del modules[name]
