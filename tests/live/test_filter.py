"""The filter in the kernel and the automaton in Python agree on real execs, byte for byte.

Each case is an argv; it is given to a program that does nothing, in a container's cgroup. What comes
out of the ring must be what `Automaton.search` finds, no more and no less. The program searches the
first 4 KiB of argv and then 8 KiB at a time: most cases put a literal across such a border.
"""

from __future__ import annotations

import marshal
import os
import random
import secrets
import shutil
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import images
import pytest
from cgroup_of_its_own import CgroupOfItsOwn

from sensor.kernel.automaton import build, search_text
from sensor.kernel.decode import Decoder
from sensor.kernel.filter import Filter
from sensor.kernel.layout import ARGS_MAX, CHUNK_LEN, INLINE_LEN, Mode, Plan
from sensor.kernel.probe import Probe
from sensor.kernel.ring import Rings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sensor.event import ExecEvent

    Argv = list[bytes]
    Case = tuple[bytes, bytes]  # a program, and the rest of its argv as it lies in memory

SEED = 20260101
PROGRAM = "noop"  # of programs/
BORDERS = (INLINE_LEN, CHUNK_LEN, INLINE_LEN + CHUNK_LEN, INLINE_LEN + 2 * CHUNK_LEN)
WORD = b"qvortex-zaphod"
WHOLE = b"trillian-marvin"
LITERALS = (WORD, b"\0" + WHOLE + b"\0")
NAME_LENGTH = len(str(10**18)) + len(":12345678")
SENTINEL = b"?sentinel?"
SENTINEL_TURNS = 100  # of 0.1 s
BATCH = 50  # argvs that fit into the ring
SPAWN = """
import marshal, os, sys
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # each CPU has memory of its own
for argv in marshal.load(open(sys.argv[1], "rb")):
    os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)
"""


class Kernel:
    """The filter at work: takes argvs, tells which of them come through.

    `programs` are paths of one program that does nothing. Each exec gets an argument of its own behind
    that, made of digits and a colon, which no literal here holds.
    """

    def __init__(
        self, probe: Probe, rings: Rings, cgroup: CgroupOfItsOwn, directory: Path, programs: Argv
    ) -> None:
        self.probe = probe
        self.programs = programs
        self._rings = rings
        self._cgroup = cgroup
        self._batch = directory / "batch"
        self._decoders = [
            Decoder(realtime_offset_ns=0, host_pid_ns=None, host_mnt_ns=None)
            for _ in probe.ring_fds
        ]
        self._token = str(10**18 + secrets.randbelow(10**18))
        self._number = 0
        self._came: dict[str, ExecEvent] = {}

    def run(self, cases: Iterable[Case]) -> list[Argv]:
        """Exec all, in their order, and await what comes of it; returns the argvs."""
        argvs = [self._named(case) for case in cases]
        for start in range(0, len(argvs), BATCH):
            self._exec(argvs[start : start + BATCH])
            self._take(0)
        # Records come in order, so what came before the sentinel's is all.
        sentinel = self._named((self.programs[0], SENTINEL))
        self._exec([sentinel])
        for _ in range(SENTINEL_TURNS):
            if self.event_of(sentinel) is not None:
                return argvs
            self._take(0.1)
        raise AssertionError(f"no sentinel came: {self.probe.counters()}")

    def _named(self, case: Case) -> Argv:
        program, memory = case
        self._number += 1
        name = f"{self._token}:{self._number:08}".encode()
        return [program, name, *memory.removesuffix(b"\0").split(b"\0")]

    @contextmanager
    def inside(self, cgroup: CgroupOfItsOwn) -> Iterator[None]:
        """Run what follows in another cgroup."""
        before, self._cgroup = self._cgroup, cgroup
        try:
            yield
        finally:
            self._cgroup = before

    def came(self, *cases: Case) -> list[bool]:
        """Exec all, and tell which of them came through."""
        return [self.event_of(argv) is not None for argv in self.run(cases)]

    def _exec(self, argvs: list[Argv]) -> None:
        self._batch.write_bytes(marshal.dumps(argvs))
        self._cgroup.run([sys.executable, "-I", "-S", "-c", SPAWN, str(self._batch)])

    def event_of(self, argv: Argv) -> ExecEvent | None:
        return self._came.get(argv[1].decode())

    def _take(self, timeout_s: float) -> None:
        for ring, record in self._rings.poll(timeout_s):
            event = self._decoders[ring].feed(record)
            if event is None or event.args is None or len(event.args) < 2:
                continue
            name = event.args[1]
            if name.startswith(self._token):
                assert name not in self._came, "an exec came twice"
                self._came[name] = event


@pytest.fixture(scope="module")
def kernel(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    reason = images.missing_for_images()
    if reason is not None:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("filter")
    program = images.compile_programs(directory)[PROGRAM]
    programs = []
    for length in range(1, 9):  # the path is searched before argv, and shifts its borders
        link = directory / ("p" * length)
        link.symlink_to(program)
        programs.append(bytes(link))
    with ExitStack() as stack:
        probe = Probe.load(others_ring_bytes=1 << 20)
        stack.callback(probe.close)
        rings = Rings(*probe.ring_fds)
        stack.callback(rings.close)
        probe.set_mode(Mode.MATCHING)
        cgroup = stack.enter_context(CgroupOfItsOwn(b"docker/" + secrets.token_hex(32).encode()))
        yield Kernel(probe, rings, cgroup, directory, programs)
        losses = ("ring_full", "args_lost", "args_error", "call_failed", "no_scratch", "missed")
        counters = probe.counters()
        assert {name: counters[name] for name in losses} == dict.fromkeys(losses, 0)


def differences(
    kernel: Kernel, cases: Iterable[Case], literals: Iterable[bytes]
) -> tuple[list[str], float]:
    """What the kernel judged otherwise than Python, and which part of the cases is a hit."""
    automaton = build([*literals, SENTINEL])
    kernel.probe.set_filter(Filter.searching(automaton))
    ran = kernel.run(cases)
    wrong, hits = [], 0
    for argv in ran:
        memory = b"".join(argument + b"\0" for argument in argv)
        expected = automaton.search(search_text(argv[0], PROGRAM.encode(), memory))
        event = kernel.event_of(argv)
        hits += expected
        if (event is not None) != expected:
            wrong.append(f"hit: {expected}, {shape(argv)}")
        elif event is not None and encoded(event) != argv:
            wrong.append(f"another argv than was executed: {shape(argv)}")
    return wrong, hits / len(ran)


def shape(argv: Argv) -> str:
    return f"{sum(map(len, argv)) + len(argv)} bytes, arguments of {list(map(len, argv))[:50]}"


def encoded(event: ExecEvent) -> Argv:
    return [argument.encode("utf-8", "surrogateescape") for argument in event.args or ()]


def mixed_case(rng: random.Random, text: bytes) -> bytes:
    return bytes(
        byte ^ 0x20 if chr(byte).isalpha() and rng.random() < 0.5 else byte for byte in text
    )


def filler(rng: random.Random, length: int, *, many: bool) -> bytes:
    """So many bytes of argv: of one argument, or short ones with a NUL behind each."""
    raw = bytearray(rng.choices(b"qvortexzaphd-/ \xff", k=max(length, 0)))
    at = 0
    while many and (at := at + rng.randint(2, 40)) < length:
        raw[at - 1] = 0
    return bytes(raw)


def inserts(rng: random.Random) -> list[bytes]:
    """What is put across a border: three that hit, then three that only look like it."""
    half = rng.randint(1, len(WORD) - 1)
    wrong = bytearray(WORD)
    wrong[rng.randrange(len(WORD))] ^= 1
    return [
        mixed_case(rng, WORD),
        b"\0" + mixed_case(rng, WHOLE) + b"\0",
        b"/" + mixed_case(rng, WHOLE) + b"\0",  # the filter reads a slash as a NUL
        b"x" + WHOLE + b"\0",
        WORD[:half] + b"\0" + WORD[half:],
        bytes(wrong),
    ]


def before(program: bytes) -> int:
    """How many bytes of argv lie before what a case puts there."""
    return len(program) + 1 + NAME_LENGTH + 1


def straddling(rng: random.Random, programs: Argv) -> Iterator[Case]:
    """An insert that begins before, on and behind a border, with more behind it."""
    for border in BORDERS:
        for insert in inserts(rng):
            for shift in range(-len(insert) - 9, 10, 2):
                program, many = rng.choice(programs), rng.random() < 0.5
                begin = border + shift + rng.randint(0, 1) - before(program)
                behind = filler(rng, rng.choice((0, 1, 7, 8, 300, 5000)), many=many)
                yield program, filler(rng, begin, many=many) + insert + behind


def ending(rng: random.Random, programs: Argv) -> Iterator[Case]:
    """Argv that ends around a border, where the program pads what it searches."""
    for border in BORDERS:
        for shift in range(-10, 11):
            program, insert = rng.choice(programs), rng.choice(inserts(rng))
            begin = border + shift - before(program) - len(insert)
            yield program, filler(rng, begin, many=rng.random() < 0.5) + insert


def test_literals_across_the_borders_of_chunks(kernel: Kernel) -> None:
    rng = random.Random(SEED)
    cases = [*straddling(rng, kernel.programs), *ending(rng, kernel.programs)]
    wrong, hits = differences(kernel, cases, LITERALS)
    assert wrong == []
    assert 0.4 < hits < 0.6, "three of six inserts are hits"


@pytest.mark.parametrize("seed", range(4))
def test_literals_that_overlap(kernel: Kernel, seed: int) -> None:
    """Over an alphabet of few letters a search fails and falls back all the time."""
    rng = random.Random(SEED + seed)
    letters = b"abAB/\0"
    literals = [
        # Ends in a letter: of NULs behind argv Python's text has more than the kernel's.
        bytes(rng.choices(b"ab/\0", k=rng.randint(2, 8))) + bytes(rng.choices(b"ab"))
        for _ in range(rng.randint(3, 30))
    ]
    cases = [
        (rng.choice(kernel.programs), bytes(rng.choices(letters, k=rng.randint(1, 60))))
        for _ in range(60)
    ]
    wrong, hits = differences(kernel, cases, literals)
    assert wrong == []
    assert 0 < hits < 1


def test_what_an_earlier_exec_left_behind_is_not_searched(kernel: Kernel) -> None:
    """The program's memory still holds the longer argv before; it must not complete the next one."""
    program = kernel.programs[0]
    cases = []
    for border in (0, *BORDERS):
        for shift in range(300, 308):
            start = b"x" * (border + shift) + b" one"
            cases += [(program, start + b"\0two"), (program, start)]
    wrong, hits = differences(kernel, cases, [b" one\0two"])
    assert wrong == []
    assert hits == 0.5


def test_what_is_too_long_to_be_searched_whole_passes(kernel: Kernel) -> None:
    """Up to the limit argv is searched; beyond it comes, cut, whatever is in it."""
    kernel.probe.set_filter(Filter.searching(build([WORD, SENTINEL])))
    program = kernel.programs[0]
    cases = {}
    for over in (0, 1, 8):
        size = ARGS_MAX + over - before(program)
        for end in (WORD, b"x" * len(WORD)):
            # Linux takes no argument of more than 128 KiB.
            memory = b"x" * (size // 2) + b"\0" + b"x" * (size - size // 2 - len(WORD) - 2)
            cases[over, end == WORD] = (program, memory + end + b"\0")
    events = map(kernel.event_of, kernel.run(cases.values()))
    assert {
        case: None if event is None else event.args_truncated
        for case, event in zip(cases, events, strict=True)
    } == {
        (0, True): False,
        (0, False): None,
        (1, True): True,
        (1, False): True,
        (8, True): True,
        (8, False): True,
    }


HOST_WORD = b"slartibartfast"


@pytest.fixture
def host(kernel: Kernel) -> Iterator[CgroupOfItsOwn]:
    """A cgroup that is no container's, as the program knows, and a filter for both kinds."""
    automaton = build([WORD, HOST_WORD, SENTINEL], [HOST_WORD, SENTINEL])
    kernel.probe.set_filter(Filter(automaton=automaton, plan=Plan.SEARCH, host_plan=Plan.SEARCH))
    kernel.probe.know_the_host(1, None, None)
    with CgroupOfItsOwn(b"sensor-test-host-" + secrets.token_hex(4).encode()) as cgroup:
        yield cgroup
        kernel.probe.set_mode(Mode.MATCHING)
        kernel.probe.know_the_host(0, None, None)


def case(kernel: Kernel, text: bytes) -> Case:
    return kernel.programs[0], text


def learn(kernel: Kernel) -> None:
    """Have the cgroup known as the host's, from an exec that came through as unknown."""
    (argv,) = kernel.run([case(kernel, WORD)])
    event = kernel.event_of(argv)
    assert event is not None, "what is not known is no host's"
    kernel.probe.note_host_cgroup(event.cgroups)


LONG = b" " * 600


@pytest.mark.parametrize("padding", [b"", LONG, b"x\0" * 20_000])
def test_the_host_is_searched_for_its_own_literals(
    kernel: Kernel, host: CgroupOfItsOwn, padding: bytes
) -> None:
    with kernel.inside(host):
        learn(kernel)
        texts = (padding + WORD, padding + HOST_WORD, padding + WORD + HOST_WORD, padding)
        found = kernel.came(*(case(kernel, text) for text in texts))
    assert found == [False, True, True, False]
    assert kernel.came(*(case(kernel, text) for text in texts[:3])) == [True, True, True]


def test_of_the_host_nothing_comes_where_no_rule_wants_it(
    kernel: Kernel, host: CgroupOfItsOwn
) -> None:
    automaton = build([WORD, SENTINEL])
    too_long = b"x" * 120_000 + b"\0" + b"x" * 120_000
    with kernel.inside(host):
        learn(kernel)
        kernel.probe.set_filter(Filter(automaton=automaton, plan=Plan.SEARCH, host_plan=Plan.DROP))
        before = kernel.probe.counters()
        kernel._exec(
            argvs := [kernel._named(case(kernel, t)) for t in (WORD, LONG + WORD, too_long)]
        )
        moved = kernel.probe.counters()["filtered"] - before["filtered"]
    assert kernel.came(case(kernel, WORD), case(kernel, too_long)) == [True, True]
    assert [kernel.event_of(argv) for argv in argvs] == [None] * 3
    assert moved >= len(argvs)


def test_what_is_not_known_passes_once_where_searching_it_takes_long(
    kernel: Kernel, host: CgroupOfItsOwn
) -> None:
    with kernel.inside(host):
        assert kernel.came(case(kernel, b"short"), case(kernel, LONG)) == [False, True]
        assert kernel.came(case(kernel, LONG), case(kernel, LONG + WORD)) == [False, True]


def test_what_the_sensor_starts_itself_is_never_taken_for_the_hosts(
    kernel: Kernel, host: CgroupOfItsOwn
) -> None:
    with kernel.inside(host):
        learn(kernel)
        argv = kernel._named((kernel.programs[0], WORD))
        other = kernel._named((kernel.programs[0], WORD))
        kernel.probe.know_the_host(os.getpid(), None, None)
        host.run([os.fsdecode(part) for part in argv])  # a child of this process
        kernel._exec([other])
        kernel.run([])
    assert kernel.event_of(argv) is not None
    assert kernel.event_of(other) is None


def test_all_of_a_container_is_told_where_containers_are_captured(
    kernel: Kernel, host: CgroupOfItsOwn
) -> None:
    namespaces = [Path("/proc/self/ns", kind).stat().st_ino for kind in ("pid", "mnt")]
    kernel.probe.know_the_host(1, *namespaces)
    assert kernel.came(case(kernel, b"nothing")) == [False]
    kernel.probe.set_mode(Mode.CONTAINERS)
    assert kernel.came(case(kernel, b"nothing")) == [True]
    with kernel.inside(host):
        assert kernel.came(case(kernel, b"not known yet")) == [True]
        learn(kernel)
        found = kernel.came(case(kernel, b"nothing"), case(kernel, WORD), case(kernel, HOST_WORD))
        assert found == [False, False, True]
        kernel.probe.know_the_host(1, namespaces[0], namespaces[1] + 1)
        assert kernel.came(case(kernel, b"other namespaces")) == [True]


def test_the_executables_path_is_searched_where_a_rule_names_it(
    kernel: Kernel, tmp_path: Path
) -> None:
    folder = tmp_path / "Marvin"
    folder.mkdir()
    program = shutil.copy(os.path.realpath(kernel.programs[0]), folder / PROGRAM)
    link = tmp_path / "link"
    link.symlink_to(program)
    top = f"\0{tmp_path.parts[1]}\0\0".encode()
    for literal, expected in ((b"\0marvin\0", True), (top, True), (b"\0marvin\0\0", False)):
        for paths in (True, False):
            wanted = Filter(
                automaton=build([literal, SENTINEL]),
                plan=Plan.SEARCH,
                host_plan=Plan.SEARCH,
                paths=paths,
            )
            kernel.probe.set_filter(wanted)
            (argv,) = kernel.run([(bytes(link), b"x")])
            event = kernel.event_of(argv)
            assert (event is not None) == (expected and paths), (literal, paths)
            if event is not None:
                assert event.process.executable == str(program)
