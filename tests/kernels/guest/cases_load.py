"""Cases: what the program needs to load. They load it once more, beside the one at work."""

from __future__ import annotations

import ctypes as ct
import json
import os

from harness import Guest, in_child

from sensor.errors import ProbeError
from sensor.kernel.probe import Probe

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
# Before 5.11 BPF memory counts against RLIMIT_MEMLOCK, which only CAP_SYS_RESOURCE may raise.
# Where a kernel may preempt the program, Debian's lets only CAP_SYS_ADMIN open what prevents it.
CAPABILITIES = {"SYS_ADMIN": 21, "SYS_RESOURCE": 24, "PERFMON": 38, "BPF": 39}
SETS = (("BPF", "PERFMON"), ("BPF", "PERFMON", "SYS_RESOURCE"), ("BPF", "PERFMON", "SYS_ADMIN"))


def capabilities(_guest: Guest) -> dict[str, object]:
    """root with a few named capabilities can load it, and with a few more it is never preempted"""
    refusals, sufficient = {}, None
    for names in SETS:
        error, may_miss = _load_with(names)
        if error is None and sufficient is None:
            sufficient = names
        if error is None and may_miss is None:
            return {"capabilities": sufficient, "to_miss_none": names}
        refusals[" ".join(names)] = error or may_miss
    raise AssertionError(refusals)


def _load_with(names: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Loads and unloads it with only these capabilities.

    Returns the error, and why the program may be preempted; each is None if it is not so.
    """
    said, told = os.pipe()

    def load() -> None:
        libc = ct.CDLL(None)
        kept = {CAPABILITIES[name] for name in names}
        number = 0
        while libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
            if number not in kept:
                assert libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) == 0
            number += 1
        try:
            # the loader is a program of its own: by exec it gets what the bounding set allows
            probe = Probe.load(ring_bytes=1 << 20, processes_max=1024, silence_s=300)
        except ProbeError as error:
            os.write(told, json.dumps([str(error)[-1000:], None]).encode())
        else:
            os.write(told, json.dumps([None, probe.loaded.may_miss]).encode())
            probe.close()

    in_child(load)
    error, may_miss = json.loads(os.read(said, 4096))
    os.close(said)
    os.close(told)
    return error, may_miss
