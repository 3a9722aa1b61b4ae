"""What bpf/sensor.bpf.c needs to know of the kernel's structures, as compiler flags.

In: the kernel's BTF. Out: `-DNAME=VALUE` flags. A member is looked up by a list of places, for it
moves between kernels: the first that exists is taken.
"""

from __future__ import annotations

from typing import Protocol

from sensor.errors import ProbeError

# Flag to places; a place is a structure and the path of members within it.
_OFFSETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "OFF_TASK_MM": (("task_struct", "mm"),),
    "OFF_TASK_PID": (("task_struct", "pid"),),
    "OFF_TASK_TGID": (("task_struct", "tgid"),),
    "OFF_TASK_COMM": (("task_struct", "comm"),),
    "OFF_TASK_REAL_PARENT": (("task_struct", "real_parent"),),
    "OFF_TASK_GROUP_LEADER": (("task_struct", "group_leader"),),
    "OFF_TASK_SIGNAL": (("task_struct", "signal"),),
    "OFF_TASK_CRED": (("task_struct", "cred"),),
    "OFF_TASK_FS": (("task_struct", "fs"),),
    "OFF_TASK_NSPROXY": (("task_struct", "nsproxy"),),
    "OFF_TASK_THREAD_PID": (("task_struct", "thread_pid"),),
    "OFF_TASK_PID_LINKS": (("task_struct", "pid_links"),),
    "OFF_TASK_CGROUPS": (("task_struct", "cgroups"),),
    # named real_start_time before 5.5
    "OFF_TASK_START_TIME": (("task_struct", "start_boottime"), ("task_struct", "real_start_time")),
    "OFF_MM_ARG_START": (("mm_struct", "arg_start"),),
    "OFF_MM_ARG_END": (("mm_struct", "arg_end"),),
    "OFF_MM_ENV_END": (("mm_struct", "env_end"),),
    "OFF_MM_EXE_FILE": (("mm_struct", "exe_file"),),
    "OFF_BPRM_FILENAME": (("linux_binprm", "filename"),),
    "OFF_FILE_F_PATH": (("file", "f_path"), ("file", "__f_path")),
    "OFF_FILE_F_INODE": (("file", "f_inode"),),
    "OFF_INODE_I_NLINK": (("inode", "i_nlink"),),
    "OFF_PATH_MNT": (("path", "mnt"),),
    "OFF_PATH_DENTRY": (("path", "dentry"),),
    "OFF_DENTRY_D_PARENT": (("dentry", "d_parent"),),
    "OFF_DENTRY_D_NAME": (("dentry", "d_name", "name"), ("dentry", "__d_name", "name")),
    "OFF_VFSMOUNT_MNT_ROOT": (("vfsmount", "mnt_root"),),
    "OFF_MOUNT_MNT": (("mount", "mnt"),),
    "OFF_MOUNT_MNT_PARENT": (("mount", "mnt_parent"),),
    "OFF_MOUNT_MNT_MOUNTPOINT": (("mount", "mnt_mountpoint"),),
    "OFF_FS_ROOT": (("fs_struct", "root"),),
    "OFF_FS_PWD": (("fs_struct", "pwd"),),
    "OFF_SIGNAL_PIDS": (("signal_struct", "pids"),),
    "OFF_SIGNAL_TTY": (("signal_struct", "tty"),),
    "OFF_SIGNAL_LIVE": (("signal_struct", "live"),),
    "OFF_PID_LEVEL": (("pid", "level"),),
    "OFF_PID_TASKS": (("pid", "tasks"),),
    "OFF_PID_NUMBERS": (("pid", "numbers"),),
    "OFF_UPID_NS": (("upid", "ns"),),
    "OFF_TTY_DRIVER": (("tty_struct", "driver"),),
    "OFF_TTY_INDEX": (("tty_struct", "index"),),
    "OFF_TTY_DRIVER_MAJOR": (("tty_driver", "major"),),
    "OFF_TTY_DRIVER_MINOR_START": (("tty_driver", "minor_start"),),
    "OFF_CRED_UID": (("cred", "uid"),),
    "OFF_CRED_GID": (("cred", "gid"),),
    "OFF_CRED_SUID": (("cred", "suid"),),
    "OFF_CRED_SGID": (("cred", "sgid"),),
    "OFF_CRED_EUID": (("cred", "euid"),),
    "OFF_CRED_EGID": (("cred", "egid"),),
    "OFF_NSPROXY_MNT_NS": (("nsproxy", "mnt_ns"),),
    "OFF_MNT_NAMESPACE_INUM": (("mnt_namespace", "ns", "inum"),),
    "OFF_PID_NAMESPACE_INUM": (("pid_namespace", "ns", "inum"),),
    "OFF_CSS_SET_DFL_CGRP": (("css_set", "dfl_cgrp"),),
    "OFF_CSS_SET_CGRP_LINKS": (("css_set", "cgrp_links"),),
    "OFF_CSS_SET_SUBSYS": (("css_set", "subsys"),),
    "OFF_CSS_CGROUP": (("cgroup_subsys_state", "cgroup"),),
    "OFF_CGROUP_KN": (("cgroup", "kn"),),
    "OFF_CGROUP_ROOT": (("cgroup", "root"),),
    "OFF_CGROUP_LEVEL": (("cgroup", "level"),),
    "OFF_KERNFS_NODE_NAME": (("kernfs_node", "name"),),
    "OFF_KERNFS_NODE_ID": (("kernfs_node", "id"),),
    # renamed in 6.15
    "OFF_KERNFS_NODE_PARENT": (("kernfs_node", "parent"), ("kernfs_node", "__parent")),
}


# Of the records of trace events, which the programs get where they are attached by perf.
_RECORDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "OFF_EVENT_EXEC_FILENAME": (("trace_event_raw_sched_process_exec", "__data_loc_filename"),),
    "OFF_EVENT_EXEC_OLD_PID": (("trace_event_raw_sched_process_exec", "old_pid"),),
    "OFF_EVENT_FORK_PID": (("trace_event_raw_task_newtask", "pid"),),
    "OFF_EVENT_FORK_FLAGS": (("trace_event_raw_task_newtask", "clone_flags"),),
}


class Types(Protocol):
    """What this module asks of BTF: a seam, so that other kernels can be tested."""

    def offset(self, struct: str, *path: str) -> int | None: ...
    def size(self, struct: str) -> int | None: ...
    def enumerator(self, enum: str, name: str) -> int | None: ...


def compiler_flags(types: Types, *, by_perf: bool = False) -> list[str]:
    """All `-D` flags. Raises `ProbeError` naming every member this kernel lacks."""
    wanted = _OFFSETS | _RECORDS if by_perf else _OFFSETS
    values: dict[str, int | None] = {
        flag: next((o for place in places if (o := types.offset(*place)) is not None), None)
        for flag, places in wanted.items()
    }
    values["SIZE_UPID"] = types.size("upid")
    # Without any controller the kernel still has v2's tree: no v1 hierarchy to look at.
    values["CGROUP_SUBSYS_COUNT"] = types.enumerator("cgroup_subsys_id", "CGROUP_SUBSYS_COUNT") or 0
    missing = sorted(flag for flag, value in values.items() if value is None)
    if missing:
        places = ", ".join(
            ".".join(wanted[flag][0]) if flag in wanted else "struct upid" for flag in missing
        )
        raise ProbeError(f"this kernel's type information lacks: {places}")
    flags = ["-DBY_PERF"] if by_perf else []
    return flags + [f"-D{flag}={value}" for flag, value in values.items()]
