"""Runs in the guest: loads the sensor's program, runs every case, says the results on the console.

Out: lines that start with `RESULT ` and hold a JSON object: `{"facts": …}` about the kernel and the
load, `{"case": …}` for each case, `{"end": …}` when all have run. Everything else is a message.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import cases_argv
import cases_failed
import cases_filter
import cases_load
import cases_preempted
import cases_process
from harness import Guest

from sensor.errors import ProbeError

CASES: tuple[ModuleType, ...] = (
    cases_argv,
    cases_filter,
    cases_process,
    cases_preempted,
    cases_load,
    cases_failed,
)
# What a kernel says in its log when something is wrong with it, or with what was done to it.
ALARMS = re.compile(r"WARNING: |BUG: |Oops|general protection|INFO: rcu")


def say(result: dict[str, Any]) -> None:
    sys.stdout.write(f"RESULT {json.dumps(result)}\n")
    sys.stdout.flush()


def cases() -> list[Callable[[Guest], dict[str, object] | None]]:
    """The public functions of the case modules, in the order in which they stand there."""
    return [
        function
        for module in CASES
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
    ]


def counters_add_up(guest: Guest) -> None:
    """in the end every exec is accounted for, and no run of a program was missed"""
    guest.read()
    total = guest.probe.counters()
    assert total["execs"] == sum(
        total[name] for name in ("sent", "filtered", "ring_full", "shed", "call_failed")
    )
    assert total["call_failed"] == total["no_scratch"] == total["missed"] == 0


def kernel_log_is_clean(_guest: Guest) -> None:
    """the kernel has nothing to complain about in its log"""
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    alarms = []
    try:
        while line := os.read(log, 8192).decode(errors="replace"):
            if ALARMS.search(line):
                alarms.append(line.strip())
    except BlockingIOError:
        pass
    assert not alarms, alarms


def facts(guest: Guest) -> dict[str, object]:
    programs: dict[str, int | None] = {}
    counts_missed_runs = False
    for name, descriptor in guest.probe._descriptors.items():
        if name.startswith("prog:"):
            about = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
            verified = re.search(r"verified_insns:\s*(\d+)", about)
            programs[name.removeprefix("prog:")] = int(verified[1]) if verified else None
            counts_missed_runs = "recursion_misses" in about
    return {
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "python": sys.version.split()[0],
        "bcc": _bcc_version(),
        "llvm": _llvm_version(),
        "cpus": os.cpu_count(),
        "load_seconds": round(guest.probe.loaded.load_seconds, 1),
        "verified": programs,
        "counts_missed_runs": counts_missed_runs,
    }


def _bcc_version() -> str:
    """Read, not imported: BCC brings LLVM, which takes a while to start."""
    text = Path("/usr/lib/python3/dist-packages/bcc/version.py").read_text()
    found = re.search(r"'([\d.]+)", text)
    return found[1] if found else "unknown"


def _llvm_version() -> str:
    for path in Path("/usr/lib").glob("*/libLLVM*.so*"):
        found = re.search(r"(\d+)", path.name)
        if found:
            return found[1]
    return "unknown"


def run_case(guest: Guest, case: Callable[[Guest], dict[str, object] | None]) -> bool:
    started = time.monotonic()
    result: dict[str, object] = {
        "case": case.__name__,
        "about": inspect.getdoc(case),
        "passed": True,
    }
    try:
        result["found"] = case(guest)
    except Exception:  # noqa: BLE001 - a failed case is a result, and the others go on
        result |= {"passed": False, "error": traceback.format_exc()[-4000:]}
    result["seconds"] = round(time.monotonic() - started, 2)
    say(result)
    return result["passed"] is True


def main() -> int:
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    try:
        guest = Guest.load()
    except ProbeError as error:
        say({"facts": {"kernel": os.uname().release, "boot_seconds": uptime}})
        say({"case": "load", "about": "the program loads", "passed": False, "error": str(error)})
        say({"end": 1})
        return 1
    say({"facts": facts(guest) | {"boot_seconds": uptime}})
    everything = [*cases(), counters_add_up, kernel_log_is_clean]
    passed = [run_case(guest, case) for case in everything]
    say({"end": len(passed)})
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
