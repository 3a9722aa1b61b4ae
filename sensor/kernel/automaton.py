"""The filter's tables: one Aho-Corasick automaton over all rules' literals, as the program reads it.

In: literals, as bytes folded to lower-case ASCII; a NUL in one stands for the end of a name or an
argument. Out: a table of classes and a table of transitions, the contents of `struct sensor_bank`.

The program searches NUL, path as given, NUL, the file it resolved to, NUL, argv. Here upper case
shares its class with lower case, and '/' shares NUL's, so that a NUL stands before a basename, too:
that passes a little more than it must, and never less.

The host's execs may need fewer literals than those of containers, and execs that failed have rules of
their own: they have automata of their own in the same tables, with other starts.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from sensor.kernel.layout import CLASSES, STATE_HIT, STATE_START, STATES_MAX


class FilterTooLargeError(Exception):
    """The literals need more classes or states than the program has room for."""


@dataclass(frozen=True, slots=True)
class Automaton:
    """`classes` has 256 bytes; `transitions` has `CLASSES` entries a state.

    `host_start` is the state in which a search of the host's execs starts, `failed_start` and
    `failed_host_start` those for execs that failed.
    """

    classes: bytes
    transitions: array[int]
    host_start: int = STATE_START
    failed_start: int = STATE_START
    failed_host_start: int = STATE_START

    @property
    def states(self) -> int:
        return len(self.transitions) // CLASSES

    def search(self, text: bytes, *, host: bool = False, failed: bool = False) -> bool:
        """What the program does, in Python: whether any literal occurs in the text."""
        if failed:
            state = self.failed_host_start if host else self.failed_start
        else:
            state = self.host_start if host else STATE_START
        for byte in text:
            state = self.transitions[state * CLASSES + self.classes[byte]]
        return state == STATE_HIT


def search_text(filename: bytes, executable: bytes, argv: bytes, *, paths: bool = False) -> bytes:
    """The text that the program searches. argv is as it lies in memory, each argument NUL-ended.

    With `paths` the executable's path comes behind it, from the leaf to the root.
    """
    components = executable.split(b"/")[::-1]
    text = b"\0" + b"\0".join([components[0], filename, argv]) + b"\0" * 8
    return text + b"\0".join([*components, b""]) + b"\0" * 8 if paths else text


def build(
    literals: Iterable[bytes] | None,
    host_literals: Iterable[bytes] | None = None,
    *,
    failed: Iterable[bytes] | None = None,
    failed_host: Iterable[bytes] | None = None,
) -> Automaton:
    """Make one automaton, or more where some execs have literals of their own.

    What is None is not searched for, or is searched for what stands first. Raises
    `FilterTooLargeError`; an empty literal or none at all is a `ValueError`.
    """
    wanted = [
        None if some is None else _folded(some)
        for some in (literals, host_literals, failed, failed_host)
    ]
    classes = _classes([literal for some in wanted if some is not None for literal in some])
    transitions: array[int] = array("H")
    starts: dict[tuple[bytes, ...], int] = {}
    for some in wanted:
        if some is None or tuple(some) in starts:
            continue
        own = _transitions(some, classes)
        start = starts[tuple(some)] = len(transitions) // CLASSES
        if start + len(own) // CLASSES > STATES_MAX:
            raise FilterTooLargeError(f"more than {STATES_MAX} states")
        transitions.extend(STATE_HIT if state == STATE_HIT else state + start for state in own)
    if not starts:
        raise ValueError("a filter needs literals")
    of = [STATE_START if some is None else starts[tuple(some)] for some in wanted]
    return Automaton(bytes(classes), transitions, *of[1:])


def _folded(literals: Iterable[bytes]) -> list[bytes]:
    folded = sorted({literal.lower().replace(b"/", b"\0") for literal in literals})
    if not folded or b"" in folded:
        raise ValueError("a filter needs literals, and none of them empty")
    return folded


def _transitions(folded: list[bytes], classes: bytearray) -> array[int]:
    trie: list[dict[int, int]] = [{}, {}]  # state 0 is the start, state 1 the hit
    for literal in folded:
        state = STATE_START
        for position, byte in enumerate(literal, 1):
            symbol = classes[byte]
            following = trie[state].get(symbol)
            if following == STATE_HIT:
                break  # a shorter literal already hits here
            if position == len(literal):
                trie[state][symbol] = STATE_HIT
            elif following is None:
                trie.append({})
                following = trie[state][symbol] = len(trie) - 1
            state = following if following is not None else STATE_HIT
        if len(trie) > STATES_MAX:
            raise FilterTooLargeError(f"more than {STATES_MAX} states")
    return _determinize(trie)


def _classes(literals: list[bytes]) -> bytearray:
    """Bytes that occur in no literal share class 0."""
    classes = bytearray(256)
    alphabet = sorted({byte for literal in literals for byte in literal})
    if len(alphabet) >= CLASSES:
        raise FilterTooLargeError(f"{len(alphabet)} different bytes, room for {CLASSES - 1}")
    for number, byte in enumerate(alphabet, 1):
        classes[byte] = number
        if ord("a") <= byte <= ord("z"):
            classes[byte - 32] = number
    classes[ord("/")] = classes[0]
    return classes


def _determinize(trie: list[dict[int, int]]) -> array[int]:
    """Fills in the transitions of a failed match, breadth first, and makes hits absorb."""
    rows: list[list[int]] = [[STATE_START] * CLASSES for _ in trie]
    rows[STATE_HIT] = [STATE_HIT] * CLASSES
    fallback = [STATE_START] * len(trie)
    queue: deque[int] = deque()
    for symbol, state in trie[STATE_START].items():
        rows[STATE_START][symbol] = state
        if state != STATE_HIT:
            queue.append(state)
    while queue:
        state = queue.popleft()
        below = rows[fallback[state]]
        row = rows[state] = below[:]
        for symbol, following in trie[state].items():
            # where the fallback has hit, a shorter literal ends inside this one
            if below[symbol] == STATE_HIT or following == STATE_HIT:
                row[symbol] = STATE_HIT
                continue
            row[symbol] = following
            fallback[following] = below[symbol]
            queue.append(following)
    return array("H", (entry for row in rows for entry in row))
