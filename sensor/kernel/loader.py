"""The loader: a short-lived child that compiles, loads and attaches the program, then is gone.

In: a request (JSON) on a socket. Out: the file descriptors of maps, programs and attachments on the
same socket, with a JSON reply that names them. BCC brings LLVM, some 120 MB; it lives and dies in
this process, so that the sensor itself stays small and can drop its privileges. This is the only
module that imports `bcc`.
"""

from __future__ import annotations

import ctypes as ct
import os
import sys
import time
from pathlib import Path
from typing import Any

from sensor.errors import ProbeError
from sensor.kernel import failed
from sensor.kernel.btf import Btf
from sensor.kernel.handover import Sensor
from sensor.kernel.host_namespaces import host_namespace
from sensor.kernel.offsets import compiler_flags
from sensor.kernel.program import Hook, attach
from sensor.kernel.program import load as load_program
from sensor.kernel.seed import seed
from sensor.kernel.trace_events import are_needed, open_events
from sensor.kernel.trace_events import attach as attach_event

# Indexes into sn_calls, as in bpf/sensor.bpf.c.
_TAIL_CALLS = {
    "scan": 0,
    "scan_chunk": 1,
    "emit_args": 2,
    "emit_exec": 3,
    "emit_processes": 4,
    "judge": 5,
    "scan_path": 6,
}
# Exit and fork first: the process table must be right before the first exec is told.
_TRACEPOINTS = {
    "on_exit": "sched_process_exit",
    "on_fork": "sched_process_fork",
    "on_exec": "sched_process_exec",
}
# The same hooks as trace events. A new thread's record does not name its process, a new task's says
# that it is a thread.
_EVENTS = {
    "on_exit": "sched/sched_process_exit",
    "on_fork": "task/task_newtask",
    "on_exec": "sched/sched_process_exec",
}
# sn_calls too: the kernel empties a table of programs when no process holds it.
_MAPS = (
    "sn_events",
    "sn_others",
    "sn_stats",
    "sn_config",
    "sn_banks",
    "sn_recorders",
    "sn_procs",
    "sn_cgroups",
    "sn_calls",
)


def program_directory() -> Path:
    """Where the program's source lies: in the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_bpf"
    return installed if installed.is_dir() else package.parent / "bpf"


def load(request: dict[str, Any], sensor: Sensor) -> tuple[dict[str, Any], list[int]]:
    """Compiles, loads and attaches; returns the reply and the descriptors in its order.

    The sensor is told of each stage. Raises `ProbeError` when BCC is missing or refuses.
    """
    directory = program_directory()
    # BCC takes this tree for the kernel's headers; it holds just what BCC's prelude includes.
    os.environ["BCC_KERNEL_SOURCE"] = str(directory)
    sensor.begin("starting BCC")
    try:
        import bcc  # noqa: PLC0415 - LLVM is loaded here and nowhere else
    except ImportError as exc:
        raise ProbeError(
            f"BCC is missing ({exc}): apt-get install python3-bpfcc, and make the venv from "
            "/usr/bin/python3 with --system-site-packages"
        ) from exc

    started = time.monotonic()
    sensor.begin("reading the kernel's types")
    events, refused = _events(request["by_perf"])
    types: dict[str, int | None] = dict.fromkeys(_TRACEPOINTS)
    with Btf() as btf:
        offsets = compiler_flags(btf, by_perf=bool(events))
        if not events:
            types |= {name: btf.tracepoint(point) for name, point in _TRACEPOINTS.items()}
        of_failed = _plan_for_failed(btf) if request["failed_pages"] else None
    # A program that is called has the type of its caller.
    types |= dict.fromkeys(_TAIL_CALLS, types["on_exec"])
    flags = [
        *offsets,
        f"-I{directory}",
        f"-DCPUS={request['cpus']}",
        f"-DRING_PAGES={request['ring_pages']}",
        f"-DOTHERS_PAGES={request['others_pages']}",
        f"-DPROCS_MAX={request['processes_max']}",
        *((f"-DFAILED_PAGES={request['failed_pages']}", *of_failed.flags) if of_failed else ()),
        "-Wno-everything",  # about BCC's own prelude; `make lint` checks our code
    ]
    source = _source(directory, with_failed=of_failed is not None)
    sensor.begin("compiling the program")
    try:
        program = bcc.BPF(text=source, cflags=flags)
    except Exception as exc:  # BCC raises bare Exception; what it printed follows on stderr
        raise ProbeError(f"BCC could not compile the program: {exc}") from exc
    hook = Hook.EVENT if events else Hook.TRACEPOINT
    wanted = {name: (hook, type_id) for name, type_id in types.items()}
    if of_failed:
        wanted |= {name: (of_failed.hook, type_id) for name, type_id in of_failed.programs.items()}
    programs = {}
    for name, (hook, type_id) in wanted.items():
        sensor.begin(f"loading {name} into the kernel")
        programs[name] = load_program(
            name,
            bcc.lib.bpf_function_start(program.module, name.encode()),
            bcc.lib.bpf_function_size(program.module, name.encode()),
            hook,
            type_id,
        )
    _fill(program["sn_calls"], _TAIL_CALLS, programs)
    links = {
        _TRACEPOINTS[name]: (
            attach_event(name, programs[name], events[name])
            if events
            else attach(name, programs[name])
        )
        for name in _TRACEPOINTS
    }
    maps: tuple[str, ...] = _MAPS
    if of_failed:
        maps = (*_MAPS, failed.RING, *(chain.table for chain in failed.CHAINS))
        for chain in failed.CHAINS:
            _fill(program[chain.table], chain.called, programs)
        links |= {point: attach(name, programs[name]) for point, name in of_failed.first.items()}
    attached = time.monotonic()

    descriptors = {name: program[name].map_fd for name in maps}
    sensor.begin("reading the processes that run")
    proc_root = Path(request["proc_root"])
    seeded = seed(descriptors["sn_procs"], request["processes_max"], proc_root)
    descriptors |= {f"prog:{name}": fd for name, fd in programs.items()}
    descriptors |= {f"link:{name}": fd for name, fd in links.items()}
    reply = {
        "descriptors": list(descriptors),
        "seeded": seeded,
        "may_miss": refused,
        "seconds": {"load": attached - started, "seed": time.monotonic() - attached},
        "at_every_call": of_failed is not None and of_failed.at_every_call,
        "host_mnt_ns": host_namespace(proc_root, "mnt"),
        "host_pid_ns": host_namespace(proc_root, "pid"),
    }
    return reply, list(descriptors.values())


def _events(by_perf: bool | None) -> tuple[dict[str, int], str | None]:
    """The events to attach to, opened; none for raw tracepoints, and why they could not be had.

    `by_perf` asks for one or the other; None: what this kernel needs.
    """
    if by_perf is None:
        by_perf = are_needed(os.uname().release)
    if not by_perf:
        return {}, None
    try:
        return open_events(_EVENTS), None
    except ProbeError as exc:
        return {}, str(exc)


def _plan_for_failed(btf: Btf) -> failed.Plan:
    uname = os.uname()
    return failed.plan(btf, uname.machine, uname.release)


def _source(directory: Path, *, with_failed: bool) -> str:
    """The programs' source. BCC takes one text: map methods work in no file that it includes."""
    names = ["sensor.bpf.c", *([failed.SOURCE] if with_failed else [])]
    try:
        return "\n".join((directory / name).read_text() for name in names)
    except OSError as exc:
        raise ProbeError(f"the program's source is missing: {exc.filename}") from exc


def _fill(table: Any, called: dict[str, int], programs: dict[str, int]) -> None:
    for name, index in called.items():
        table[ct.c_int(index)] = ct.c_int(programs[name])


def main() -> int:
    """Entry point of the child: `python -m sensor.kernel.loader FD`."""
    sensor = Sensor(int(sys.argv[1]))
    try:
        reply, descriptors = load(sensor.request(), sensor)
    except ProbeError as exc:
        sensor.fail(str(exc))
        return 1
    sensor.hand_over(reply, descriptors)
    sys.stderr.flush()
    os._exit(0)  # LLVM's destructors take longer than all of the above


if __name__ == "__main__":
    sys.exit(main())
