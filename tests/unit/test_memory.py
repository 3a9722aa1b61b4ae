"""What keeps memory small does it: in processes of their own, for it is about a whole process."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import weakref

import pytest

from sensor import memory

ARENAS = """
import ctypes, os, re, sys, tempfile, threading
from sensor import memory

if sys.argv[1] == "one":
    assert memory.use_one_arena()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
together = threading.Barrier(5)

def allocate():
    together.wait()
    assert library.malloc(ctypes.c_size_t(1000))
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
together.wait()
together.wait()
library.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(library.fopen(file.name.encode(), b"w"))
    assert library.malloc_info(0, stream) == 0
    library.fclose(stream)
    print(len(re.findall(rb"<heap nr=", file.read())))
"""


TRIM = """
from pathlib import Path
import re
from sensor import memory

def anonymous():
    return int(re.search(r"Anonymous: +(\\d+)", Path("/proc/self/smaps_rollup").read_text())[1])

memory.use_one_arena()
blocks = [bytes(9_000) for _ in range(3_000)]
full = anonymous()
# What is kept lies between what is freed, so that the heap cannot just end earlier.
kept = blocks[::7]
del blocks
freed = anonymous()
memory.trim()
print(full - freed < 1_000, freed - anonymous() > 10_000)
"""


def output_of(program: str, *arguments: str) -> str:
    child = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True
    )
    return child.stdout.strip()


def test_threads_share_one_arena_and_would_not_otherwise() -> None:
    assert output_of(ARENAS, "one") == "1"
    assert int(output_of(ARENAS, "as it is")) > 1


def test_trimming_gives_back_what_the_heap_would_keep() -> None:
    assert output_of(TRIM) == "True True"


class Ring:
    """Refers to itself: only the collector ends it."""

    def __init__(self) -> None:
        self.own = self


def test_settling_ends_garbage_even_what_lasted_at_the_last_time() -> None:
    try:
        first = Ring()
        gone = weakref.ref(first)
        memory.settle()
        assert gc.get_freeze_count() > 0
        del first
        assert gone() is not None
        memory.settle()
        assert gone() is None
    finally:
        gc.unfreeze()


def test_what_lasts_is_not_looked_at_again() -> None:
    try:
        memory.settle()
        assert len(gc.get_objects()) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()


def test_hidden_modules_cannot_be_imported_and_can_be_later() -> None:
    sys.modules.pop("colorsys", None)
    with memory.without_modules("colorsys", "this_is_never_there", "gc"):
        with pytest.raises(ImportError):
            importlib.import_module("colorsys")
        assert importlib.import_module("gc") is gc
    assert "this_is_never_there" not in sys.modules
    assert importlib.import_module("colorsys").rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_dockers_client_comes_without_what_guesses_encodings() -> None:
    program = """
import sys
from sensor.containers import discovery

discovery._told("docker:/nowhere.sock", discovery.SourcesConfig())
import requests

answer = requests.Response()
answer._content = "für".encode()
print(sorted({"docker", "chardet", "charset_normalizer"} & set(sys.modules)), answer.text == "für")
"""
    assert output_of(program) == "['docker'] True"
