"""Records to events, and whatever else comes to `DecodeError`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import args_record, exec_record

from sensor.errors import DecodeError
from sensor.event import Cgroup, ExecEvent
from sensor.kernel.decode import Decoder
from sensor.kernel.layout import CHUNKS_MAX, Flag, Role


def decoder() -> Decoder:
    return Decoder(realtime_offset_ns=5_000, host_pid_ns=7, host_mnt_ns=9)


def decoded(record: bytes) -> ExecEvent:
    event = decoder().feed(record)
    assert event is not None
    return event


def test_an_exec_is_told_whole() -> None:
    event = decoded(
        exec_record(start_ns=11, euid=1, ruid=2, egid=3, rgid=4, sid=100, pgid=90, exec_ns=2_000)
    )
    assert event.args == ("grep", "-r", "needle")
    assert (event.process.pid, event.process.start_ns, event.ppid) == (100, 11, 50)
    assert event.time_ns == 7_000
    assert event.process.executable == "/usr/bin/grep"
    assert event.process.working_directory == "/srv"
    assert (event.process.uid, event.real_uid, event.process.gid, event.real_gid) == (1, 2, 3, 4)
    assert event.cgroups == (Cgroup(id=1, path="/docker/abc"),)
    assert (event.args_truncated, event.args_read_error, event.process.interactive) == (False,) * 3


def test_both_hierarchies_are_kept_in_order() -> None:
    event = decoded(exec_record(cgroups=(b"", b"leaf\0docker\0")))
    assert [cgroup.path for cgroup in event.cgroups] == ["/", "/docker/leaf"]


def test_namespaces_are_compared_with_the_hosts() -> None:
    namespaces = decoded(exec_record(pid_ns=7, mnt_ns=8)).namespaces
    assert namespaces is not None
    assert (namespaces.pid_is_host, namespaces.mnt_is_host) == (True, False)


def test_without_the_hosts_namespaces_nothing_is_claimed() -> None:
    event = Decoder(realtime_offset_ns=0, host_pid_ns=None, host_mnt_ns=None).feed(exec_record())
    assert event is not None
    assert event.namespaces is None


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (b"", ()),
        (b"\0", ("",)),
        (b"a\0\0b\0", ("a", "", "b")),
        (b"a\0b", ("a", "b")),
        (b"\xff\xfea\0", ("\udcff\udcfea",)),
    ],
)
def test_argv_is_split_at_its_nuls(argv: bytes, expected: tuple[str, ...]) -> None:
    assert decoded(exec_record(argv=argv)).args == expected


def test_a_long_argv_comes_together_from_its_parts() -> None:
    subject = decoder()
    assert subject.feed(args_record(b"c\0", index=0)) is None
    assert subject.feed(args_record(b"d\0", index=1)) is None
    event = subject.feed(exec_record(argv=b"a\0b", args_total=7, flags=Flag.ARGS_CHUNKED))
    assert event is not None
    assert (event.args, event.args_truncated) == (("a", "bc", "d"), False)


def test_parts_of_different_cpus_do_not_mix() -> None:
    subject = decoder()
    subject.feed(args_record(b"x\0", cpu=0, exec_ns=1))
    subject.feed(args_record(b"y\0", cpu=1, exec_ns=2))
    flags = Flag.ARGS_CHUNKED
    one = subject.feed(exec_record(argv=b"a", args_total=3, cpu=1, exec_ns=2, flags=flags))
    two = subject.feed(exec_record(argv=b"b", args_total=3, cpu=0, exec_ns=1, flags=flags))
    assert [one and one.args, two and two.args] == [("ay",), ("bx",)]


def test_a_lost_part_is_said_and_nothing_is_glued_over_the_gap() -> None:
    subject = decoder()
    subject.feed(args_record(b"LATE\0", index=1))
    event = subject.feed(exec_record(argv=b"a\0b", args_total=90, flags=Flag.ARGS_CHUNKED))
    assert event is not None
    assert (event.args, event.args_truncated) == (("a", "b"), True)


def test_parts_are_bounded_whatever_their_numbers_say() -> None:
    subject = decoder()
    for index in (*range(40), 2**31, 2**32 - 1):
        subject.feed(args_record(b"x" * 8, index=index))
    (pending,) = subject._pending.values()
    assert len(pending.parts) == CHUNKS_MAX


def test_parts_whose_exec_never_came_are_counted() -> None:
    subject = decoder()
    subject.feed(args_record(b"x\0", exec_ns=1))
    subject.feed(exec_record(exec_ns=2))
    assert subject.incomplete == 1


def test_an_unreadable_argv_is_not_an_empty_one() -> None:
    event = decoded(exec_record(argv=b"", args_total=40, flags=Flag.ARGS_READ_ERROR))
    assert (event.args, event.args_read_error, event.args_truncated) == (None, True, False)


@pytest.mark.parametrize(
    ("filename", "exe", "name", "names"),
    [
        (b"/bin/grep\0", b"grep\0bin\0", "grep", ("grep",)),
        (b"/bin/grep\0", b"busybox\0bin\0", "grep", ("grep", "busybox")),
        (b"./lnk\0", b"grep\0bin\0", "lnk", ("lnk", "grep")),
        (b"/proc/self/exe\0", b"busybox\0bin\0", "busybox", ("busybox", "exe")),
        (b"/dev/fd/9\0", b"grep\0bin\0", "grep", ("grep", "9")),
    ],
)
def test_the_names_a_process_answers_to(
    filename: bytes, exe: bytes, name: str, names: tuple[str, ...]
) -> None:
    event = decoded(exec_record(filename=filename, exe=exe))
    assert (event.process.name, event.names) == (name, names)


def test_a_memfd_and_a_deleted_file_are_told_apart() -> None:
    memfd = decoded(exec_record(exe=b"memfd:x\0", flags=Flag.EXE_UNLINKED | Flag.EXE_PSEUDO))
    deleted = decoded(exec_record(flags=Flag.EXE_UNLINKED))
    assert (memfd.executable_memfd, memfd.executable_deleted) == (True, False)
    assert (deleted.executable_memfd, deleted.executable_deleted) == (False, True)


def test_ancestors_and_leaders_by_their_roles() -> None:
    event = decoded(
        exec_record(
            processes=[
                {"tgid": 50, "role": Role.ANCESTOR | Role.GROUP_LEADER},
                {"tgid": 1, "comm": b"init", "exe": b"init\0sbin\0", "flags": Flag(0)},
                {"tgid": 40, "role": Role.SESSION_LEADER},
            ]
        )
    )
    assert [ancestor.pid for ancestor in event.ancestors] == [50, 1]
    assert event.group_leader is not None
    assert event.group_leader.pid == 50
    assert event.session_leader is not None
    assert event.session_leader.pid == 40
    assert event.ancestors[0].args == ("sh", "-c", "x")
    # not in the table: its argv is not known, which is not the same as empty
    assert event.ancestors[1].args is None
    assert event.ancestors[1].executable == "/sbin/init"


RUNC = {"comm": b"runc", "filename": b"/usr/bin/runc", "mnt_ns": 5}
ENDING = RUNC | {"exe": b"", "flags": Flag.IN_TABLE | Flag.EXE_UNREADABLE}


@pytest.mark.parametrize(
    ("before", "executable"),
    [
        ({"exe": b"runc\0bin\0usr\0"}, "/usr/bin/runc"),
        ({"exe": b"runc\0sbin\0usr\0"}, None),  # the path as given leads elsewhere
        ({"exe": b"runc\0bin\0usr\0", "mnt_ns": 6}, None),  # and in a container, who knows
    ],
)
def test_who_is_ending_keeps_a_path_that_was_seen_to_be_plain(
    before: dict[str, Any], executable: str | None
) -> None:
    subject = decoder()
    subject.feed(exec_record(processes=[RUNC | before]))
    event = subject.feed(exec_record(processes=[ENDING]))
    assert event is not None
    assert event.ancestors[0].executable == executable
    assert event.ancestors[0].name == "runc"


def test_plain_paths_are_bounded_and_the_longest_unseen_goes() -> None:
    subject = decoder()
    for number in range(300):
        name = b"tool-%03d" % number
        subject.feed(
            exec_record(
                processes=[{"filename": b"/bin/" + name, "exe": name + b"\0bin\0", "mnt_ns": 5}]
            )
        )
    assert len(subject._plain_paths) == 256
    assert next(iter(subject._plain_paths)) == (5, "/bin/tool-044")


def test_namespaces_that_are_gone_are_not_known() -> None:
    event = decoded(exec_record(processes=[{"pid_ns": 0, "mnt_ns": 0}]))
    assert (event.ancestors[0].pid_ns, event.ancestors[0].mnt_ns) == (None, None)


def test_a_cut_path_says_so() -> None:
    event = decoded(exec_record(flags=Flag.PATH_TRUNCATED))
    assert event.process.executable == ".../usr/bin/grep"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"", "no header"),
        (exec_record()[:10], "no header"),
        (exec_record()[:-1], "bytes said"),
        (b"\x09" + exec_record()[1:], "unknown kind"),
        (exec_record()[:2] + b"\x63" + exec_record()[3:], "ABI version"),
    ],
)
def test_a_broken_record_is_a_decode_error(record: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decoder().feed(record)


def _overwritten(draw: st.DrawFn, record: bytes) -> bytes:
    raw = bytearray(record)
    for position, value in draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=24)
    ):
        raw[position] = value
    return bytes(raw[: draw(st.integers(0, len(raw)))])


@st.composite
def records(draw: st.DrawFn) -> bytes:
    process = {"role": Role(draw(st.integers(0, 7)))}
    valid = draw(
        st.sampled_from(
            [exec_record(processes=[process, process]), args_record(b"x\0"), exec_record()]
        )
    )
    return draw(st.one_of(st.binary(max_size=400), st.just(_overwritten(draw, valid))))


@settings(max_examples=600, deadline=None)
@given(st.lists(records(), max_size=4))
def test_whatever_comes_is_an_event_or_a_decode_error(stream: list[bytes]) -> None:
    subject = decoder()
    for record in stream:
        try:
            event = subject.feed(record)
        except DecodeError:
            continue
        assert event is None or isinstance(event, ExecEvent)
