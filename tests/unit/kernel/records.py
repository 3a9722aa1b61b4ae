"""Records as the program writes them, for tests: the layout's structures with a tail."""

from __future__ import annotations

import ctypes as ct
from collections.abc import Iterable

from sensor.kernel import layout
from sensor.kernel.layout import Flag, Kind, Role, Span


def _header(kind: Kind, size: int, flags: Flag, cpu: int, exec_ns: int) -> layout.Header:
    return layout.Header(
        kind=kind, version=layout.ABI_VERSION, size=size, cpu=cpu, flags=flags, exec_ns=exec_ns
    )


def args_record(data: bytes, *, index: int = 0, cpu: int = 0, exec_ns: int = 1000) -> bytes:
    fixed = layout.Args.data.offset
    header = _header(Kind.ARGS, fixed + len(data), Flag(0), cpu, exec_ns)
    return bytes(header) + index.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data


def image_of(filename: bytes, argv: bytes) -> layout.Image:
    """What the process table keeps of a process."""
    text = (filename + b"\0" + argv)[: layout.IMAGE_LEN]
    image = layout.Image(args_total=len(argv), filename_len=len(filename) + 1, text_len=len(text))
    image.text[: len(text)] = text
    return image


def process_bytes(
    tail_offset: int,
    *,
    role: Role = Role.ANCESTOR,
    tgid: int = 50,
    comm: bytes = b"sh",
    filename: bytes = b"/bin/sh",
    argv: bytes = b"sh\0-c\0x\0",
    exe: bytes = b"dash\0bin\0usr\0",
    flags: Flag = Flag.IN_TABLE,
    **numbers: int,
) -> bytes:
    """A process with its path behind it, padded; `tail_offset` is where in the tail it will lie."""
    image = image_of(filename, argv)
    process = layout.Process(
        role=role,
        flags=flags,
        tgid=tgid,
        exe=Span(tail_offset + ct.sizeof(layout.Process), len(exe)),
        comm=comm,
        image=image,
        **numbers,
    )
    joined = bytes(process) + exe
    return joined + b"\0" * (-len(joined) % 8)


_NO_FLAGS = Flag(0)


def exec_record(
    *,
    argv: bytes = b"grep\0-r\0needle\0",
    args_total: int | None = None,
    filename: bytes = b"/bin/grep\0",
    exe: bytes = b"grep\0bin\0usr\0",
    cwd: bytes = b"srv\0",
    cgroups: Iterable[bytes] = (b"abc\0docker\0",),
    processes: Iterable[dict[str, object]] = (),
    flags: Flag = _NO_FLAGS,
    comm: bytes = b"grep",
    cpu: int = 0,
    exec_ns: int = 1000,
    kind: Kind = Kind.EXEC,
    previous: layout.Image | None = None,
    **numbers: int,
) -> bytes:
    tail = b""

    def add(raw: bytes) -> Span:
        nonlocal tail
        span = Span(len(tail), len(raw))
        tail += raw
        return span

    spans = {"args": add(argv), "filename": add(filename), "exe": add(exe), "cwd": add(cwd)}
    spans["previous"] = Span() if previous is None else add(bytes(previous))
    groups = [layout.Cgroup(id=n, names=add(raw)) for n, raw in enumerate(cgroups, 1)]
    groups += [layout.Cgroup()] * (layout.HIERARCHIES - len(groups))
    tail += b"\0" * (-len(tail) % 8)
    start = len(tail)
    for process in processes:
        tail += process_bytes(len(tail), **process)  # type: ignore[arg-type]
    spans["processes"] = Span(start, len(tail) - start)
    body = layout.Exec(
        header=_header(kind, ct.sizeof(layout.Exec) + len(tail), flags, cpu, exec_ns),
        args_total=len(argv) if args_total is None else args_total,
        cgroups=(layout.Cgroup * layout.HIERARCHIES)(*groups),
        comm=comm,
        **{"tgid": 100, "tid": 100, "ppid": 50, "pid_ns": 7, "mnt_ns": 8, **numbers},
        **spans,
    )
    return bytes(body) + tail
