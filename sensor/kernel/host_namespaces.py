"""Which namespaces are the host's, from what /proc shows of the processes that are always in them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

_PF_KTHREAD = 0x0020_0000  # include/linux/sched.h
_FLAGS = 6  # of /proc/PID/stat, counted from what follows the name


def host_namespace(proc_root: Path, kind: Literal["mnt", "pid"]) -> int | None:
    """Inode number of the host's namespace of this kind; None when it is out of reach.

    It is that of the first process. Where that one may not be looked at, as by a root that lacks one
    of its capabilities, it is that of kthreadd, the kernel's second thread, which is never elsewhere.
    """
    with suppress(OSError):
        return _inode(proc_root / "1", kind)
    with suppress(OSError):
        if _is_kernel_thread(proc_root / "2"):
            return _inode(proc_root / "2", kind)
    return None


def _inode(process: Path, kind: str) -> int:
    return (process / "ns" / kind).stat().st_ino


def _is_kernel_thread(process: Path) -> bool:
    """By its flags: in a pid namespace the number 2 may be anybody's, and so may the name."""
    after_name = (process / "stat").read_bytes().rpartition(b")")[2].split()
    try:
        return bool(int(after_name[_FLAGS]) & _PF_KTHREAD)
    except (IndexError, ValueError):
        return False
