"""Checks of the kernel: its release, what it was built with, and what it lets this user do."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
from typing import TYPE_CHECKING

from sensor.doctor.finding import Finding, Status
from sensor.errors import ProbeError
from sensor.kernel.trace_events import are_needed, open_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sensor.doctor.finding import Host

# BPF ring buffers came with this release.
OLDEST_KERNEL = (5, 8)

BPF_MAP_TYPE_RINGBUF = 27
BTF_MAGIC = 0xEB9F


def check_root(host: Host) -> Finding:
    if host.euid == 0:
        return Finding(name="root", status=Status.OK, detail="running as root")
    return Finding(
        name="root",
        status=Status.FAIL,
        detail=f"running as uid {host.euid}; loading an eBPF program needs root",
        fix="sudo .venv/bin/sensor doctor (and start the sensor with sudo, too)",
    )


def check_kernel(host: Host) -> Finding:
    oldest = ".".join(map(str, OLDEST_KERNEL))
    found = re.match(r"(\d+)\.(\d+)", host.release)
    if found is None:
        return Finding(
            name="kernel", status=Status.WARN, detail=f"release {host.release!r} is not understood"
        )
    if (int(found[1]), int(found[2])) < OLDEST_KERNEL:
        return Finding(
            name="kernel",
            status=Status.FAIL,
            detail=f"{host.release} has no BPF ring buffer, which came with {oldest}",
            fix=f"boot a kernel from {oldest} on (Debian 11 and later have one)",
        )
    return Finding(name="kernel", status=Status.OK, detail=f"{host.release} (from {oldest} on)")


def check_btf(host: Host) -> Finding:
    path = host.sys_root / "kernel/btf/vmlinux"
    fix = "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian's are, from 11 on)"
    try:
        with path.open("rb") as file:
            magic = int.from_bytes(file.read(2), "little")
        size = path.stat().st_size
    except OSError as error:
        return Finding(name="btf", status=Status.FAIL, detail=f"{path}: {error.strerror}", fix=fix)
    if magic != BTF_MAGIC:
        return Finding(name="btf", status=Status.FAIL, detail=f"{path}: not BTF", fix=fix)
    return Finding(name="btf", status=Status.OK, detail=f"{path}, {size // 1024} KiB")


def check_libbpf_and_bpf(host: Host) -> Iterator[Finding]:
    """Load libbpf, then try the bpf system call through it with the map the sensor needs."""
    try:
        libbpf = ctypes.CDLL(host.libbpf)
        libbpf.libbpf_version_string.restype = ctypes.c_char_p
        version = libbpf.libbpf_version_string().decode()
    except (OSError, AttributeError) as error:
        yield Finding(
            name="libbpf",
            status=Status.FAIL,
            detail=f"{host.libbpf}: {error}",
            fix="sudo apt-get install libbpf1",
        )
        return
    yield Finding(name="libbpf", status=Status.OK, detail=f"{host.libbpf}, {version}")
    yield _check_bpf(host, libbpf)


def _check_bpf(host: Host, libbpf: ctypes.CDLL) -> Finding:
    if host.euid != 0:
        return Finding(name="bpf", status=Status.WARN, detail="not tried: that needs root")
    fd = libbpf.bpf_map_create(
        BPF_MAP_TYPE_RINGBUF, b"sensor_doctor", 0, 0, resource.getpagesize(), None
    )
    if fd >= 0:
        os.close(fd)
        return Finding(name="bpf", status=Status.OK, detail="a ring buffer can be made")
    number = -fd
    fixes = {
        errno.ENOSYS: "boot a kernel built with CONFIG_BPF_SYSCALL=y",
        errno.EPERM: "give CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN; in a container, see its seccomp profile",
        errno.EINVAL: "boot a kernel from 5.8 on",
    }
    return Finding(
        name="bpf",
        status=Status.FAIL,
        detail=f"bpf(BPF_MAP_CREATE) for a ring buffer: {os.strerror(number)}",
        fix=fixes.get(number),
    )


def check_preemption(host: Host) -> Finding:
    """Newer kernels preempt raw tracepoints; what is attached to trace events by perf they do not."""
    if not are_needed(host.release):
        detail = f"{host.release} does not preempt the program"
        return Finding(name="preemption", status=Status.OK, detail=detail)
    if host.euid != 0:
        return Finding(name="preemption", status=Status.WARN, detail="not tried: that needs root")
    try:
        opened = open_events({"exec": "sched/sched_process_exec"})
    except ProbeError as error:
        return Finding(
            name="preemption",
            status=Status.WARN,
            detail=f"{host.release} may preempt the program and skip it for another exec, which is "
            f"counted as missed; what prevents it is refused: {error}",
            fix="give CAP_SYS_ADMIN (or, where the kernel's build is content with it, CAP_PERFMON and a "
            "mounted tracefs); the sensor gives it up once it is ready",
        )
    for fd in opened.values():
        os.close(fd)
    detail = "trace events can be opened, where the program is not preempted"
    return Finding(name="preemption", status=Status.OK, detail=detail)


def check_failed_execs(host: Host) -> Finding:
    """Where execs that failed could be seen, by loading a program that does nothing."""
    from sensor.kernel import failed  # noqa: PLC0415 - loads libbpf, whose lack is a finding above
    from sensor.kernel.btf import Btf  # noqa: PLC0415 - the same

    name = "failed execs"
    if host.euid != 0:
        return Finding(name=name, status=Status.WARN, detail="not tried: that needs root")
    try:
        with Btf() as btf:
            plan = failed.plan(btf, os.uname().machine, host.release)
    except ProbeError as error:
        return Finding(
            name=name,
            status=Status.WARN,
            detail=f"{error}: kernel.failed_execs cannot be true here",
        )
    if plan.at_every_call:
        detail = "with kernel.failed_execs every system call of this machine takes a little longer"
    else:
        detail = "with kernel.failed_execs they are seen at the return of execve and execveat"
    return Finding(name=name, status=Status.OK, detail=detail)


def check_lockdown(host: Host) -> Finding:
    """Only `confidentiality` keeps BPF from reading kernel memory, which argv and cgroups need."""
    try:
        text = (host.sys_root / "kernel/security/lockdown").read_text()
    except OSError:
        return Finding(
            name="lockdown", status=Status.OK, detail="no lockdown state shown by this kernel"
        )
    found = re.search(r"\[(\w+)\]", text)
    state = found[1] if found else text.strip()
    if state == "confidentiality":
        return Finding(
            name="lockdown",
            status=Status.FAIL,
            detail="confidentiality: BPF may not read kernel memory",
            fix="boot with lockdown=integrity (or without lockdown=)",
        )
    return Finding(name="lockdown", status=Status.OK, detail=state)


def check_cgroup(host: Host) -> Finding:
    """Name the cgroup hierarchies in use, by /proc/self/mountinfo."""
    try:
        mounts = (host.proc_root / "self/mountinfo").read_text(errors="surrogateescape")
    except OSError as error:
        return Finding(name="cgroup", status=Status.WARN, detail=f"mountinfo: {error.strerror}")
    # After the separator: file system type, source, options of the super block.
    kinds = {line.partition(" - ")[2].split(" ", 1)[0] for line in mounts.splitlines()} & {
        "cgroup",
        "cgroup2",
    }
    match sorted(kinds):
        case ["cgroup", "cgroup2"]:
            detail = "v1 with the unified hierarchy beside it (hybrid)"
        case ["cgroup2"]:
            detail = "v2"
        case ["cgroup"]:
            detail = "v1"
        case _:
            return Finding(
                name="cgroup",
                status=Status.WARN,
                detail="no cgroup file system is mounted: no container can be recognised",
                fix="sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            )
    return Finding(name="cgroup", status=Status.OK, detail=detail)


def check_memlock(host: Host) -> Finding:
    """Informative only: from 5.11 on BPF memory counts towards the memory cgroup, not to this limit."""
    limit = "unlimited" if host.memlock == resource.RLIM_INFINITY else f"{host.memlock // 1024} KiB"
    return Finding(name="memlock", status=Status.OK, detail=f"{limit} (matters before 5.11 only)")
