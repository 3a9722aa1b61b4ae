"""`sensor replay`: recorded events in, alerts out. Needs no root and no BPF.

In: ECS documents, one JSON object a line. Out: alert documents on stdout, one a line; lines that are
no documents, and a summary, on stderr.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from sensor.alerts.alert import alert_document
from sensor.cli.rules import EXIT_CONFIGURATION, finish, report_errors
from sensor.ecs import matching_view
from sensor.errors import SensorError
from sensor.rules.engine import END, Match, RuleEngine, document_time_ns
from sensor.rules.load import load_rules
from sensor.rules.source import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sensor.rules.rule import Rule

# An argv at the kernel's limit of 2 MiB, each byte escaped in JSON, and room for the rest.
MAX_LINE_BYTES = 16 * 1024 * 1024
_MAX_REPORTED = 10
# What ECS has as objects and later stages take for granted.
_OBJECTS = ("container", "data_stream", "event", "host", "process", "sensor", "user")


@click.command("replay", short_help="Run rules over recorded events.")
@click.option(
    "--rules", "paths", multiple=True, type=click.Path(), metavar="PATH",
    help="A rule file or a directory of them. May be given more than once.",
)  # fmt: skip
@click.option("--no-builtin", is_flag=True, help="Leave out the built-in rules.")
@click.option("--strict", is_flag=True, help="Do nothing if any rule is in error.")
@click.argument("file", type=click.File("rb"))
def replay(paths: tuple[str, ...], no_builtin: bool, strict: bool, file: IO[bytes]) -> None:
    """Run rules over recorded events in FILE (`-` for stdin) and print the alerts.

    FILE has one ECS document a line, as `sensor record` writes them. Each match is printed: alerts
    are not collapsed, and no limit or exception applies.

    Exit code: 1 where FILE holds no document at all; 2 for a wrong option, or no rule that can be used.
    """
    result = load_rules(paths, builtin=not no_builtin)
    if strict:
        finish(result)
    report_errors(result.errors)
    if result.errors and not result.rules:
        sys.exit(EXIT_CONFIGURATION)
    replayed = Replay((*result.rules, *result.inactive))
    out = sys.stdout.buffer
    for alert in replayed.alerts(file):
        out.write(msgspec.json.encode(alert) + b"\n")
    out.flush()
    click.echo(replayed.summary(), err=True)
    if replayed.bad_lines and not replayed.documents:
        raise SensorError(f"{file.name}: holds no document; `sensor record` writes such files")


class Replay:
    """Runs rules over a stream of documents, and counts."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._engine = RuleEngine(rules, replay=True)
        self._pipes = {
            rule.id: _Pipes(rule.query.pipes)
            for rule in self._engine.rules
            if rule.query is not None and rule.query.pipes
        }
        self.documents = 0
        self.bad_lines = 0
        self.alert_counts: Counter[str] = Counter()

    def alerts(self, stream: IO[bytes]) -> Iterator[dict[str, Any]]:
        """Yield the alert documents for the stream, in the order in which they come about.

        What a `tail` holds back comes at the end.
        """
        time_ns = 0
        for document in self._read(stream):
            # A document without a time happened when the one before it did.
            time_ns = document_time_ns(document) or time_ns
            for match in self._engine.match(matching_view(document), time_ns):
                yield from self._through_pipes(match)
        for match in self._engine.expire(END):
            yield from self._through_pipes(match)
        for pipes in self._pipes.values():
            yield from map(self._alert, pipes.end())

    def summary(self) -> str:
        """One line on what was read and found."""
        total = self.alert_counts.total()
        text = f"{self.documents} documents, {total} alerts by {len(self.alert_counts)} rules"
        if self.bad_lines:
            text += f", {self.bad_lines} lines that are no documents"
        raised = [name for name, count in self._engine.counters().items() if count.errors]
        if raised:
            text += f", rules that raised: {printable(', '.join(raised))}"
        return text

    def _through_pipes(self, match: Match) -> Iterator[dict[str, Any]]:
        pipes = self._pipes.get(match.rule.id)
        for each in [match] if pipes is None else pipes.push(match):
            yield self._alert(each)

    def _alert(self, match: Match) -> dict[str, Any]:
        self.alert_counts[match.rule.id] += 1
        return alert_document(match.documents, match.rule)

    def _read(self, stream: IO[bytes]) -> Iterator[dict[str, Any]]:
        decoder = msgspec.json.Decoder(dict[str, Any])
        for number, line in enumerate(_lines(stream), start=1):
            if line is not None and not line.strip():
                continue
            if line is None:
                self._bad_line(number, f"longer than {MAX_LINE_BYTES} bytes")
                continue
            try:
                document = decoder.decode(line)
            except (ValueError, RecursionError) as error:
                # msgspec's errors are ValueErrors; deep nesting ends in the other.
                self._bad_line(number, str(error))
                continue
            if wrong := [key for key in _OBJECTS if not isinstance(document.get(key, {}), dict)]:
                self._bad_line(number, f"{wrong[0]} is not an object")
                continue
            self.documents += 1
            yield document

    def _bad_line(self, number: int, why: str) -> None:
        self.bad_lines += 1
        if self.bad_lines <= _MAX_REPORTED:
            click.echo(f"line {number}: not a document: {printable(why)}", err=True)


def _lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Yield the lines of the stream; None for one that is too long to be kept in memory."""
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if len(line) <= MAX_LINE_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE_BYTES)
        yield None


class _Pipes:
    """The `head` and `tail` at the end of a query, over the matches of its rule."""

    def __init__(self, pipes: Iterable[Any]) -> None:
        self._stages = [(pipe.name, pipe.count, deque[Match](maxlen=pipe.count)) for pipe in pipes]
        self._passed = [0] * len(self._stages)

    def push(self, match: Match) -> list[Match]:
        """Put one match in; return what comes out at the other end."""
        return self._from(0, match)

    def end(self) -> list[Match]:
        """Return what was held back until the last match was known."""
        out: list[Match] = []
        for index, (name, _, held) in enumerate(self._stages):
            if name == "tail":
                while held:
                    out.extend(self._from(index + 1, held.popleft()))
        return out

    def _from(self, first: int, match: Match) -> list[Match]:
        for index in range(first, len(self._stages)):
            name, count, held = self._stages[index]
            if name == "tail":
                held.append(match)
                return []
            if self._passed[index] == count:
                return []
            self._passed[index] += 1
        return [match]
