"""Loading rules: paths in, compiled rules out, together with all that is wrong with the others.

`load_rules` does it all in this process. `load_rules_in_child` gives the same result, but leaves
reading and parsing to a short-lived child, so that a running sensor never holds the parsers.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sensor.child import answer
from sensor.errors import Location, RuleError, RuleSyntaxError, SensorError
from sensor.rules.compile import compile_ast
from sensor.rules.rule import SEVERITY_NUMBER, Rule
from sensor.rules.schema import DEFAULT_SCHEMA
from sensor.rules.source import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sensor.rules.compile import Query
    from sensor.rules.read import ReadRule

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What came of loading.

    `rules` can fire, `inactive` cannot and say why, `errors` are the files that are no rules,
    `notices` what a user should know although nothing is wrong.
    """

    rules: tuple[Rule, ...] = ()
    inactive: tuple[Rule, ...] = ()
    errors: tuple[RuleError, ...] = ()
    notices: tuple[str, ...] = ()


def load_rules(paths: Iterable[str | os.PathLike[str]] = (), *, builtin: bool = True) -> LoadResult:
    """Load the rules at or below the paths, after the built-in ones unless `builtin` is False.

    Raises nothing for what stands in a file or is missing: that is in the result's `errors`.
    """
    from sensor.rules.read import read_rules  # noqa: PLC0415 - brings the parsers

    return _assemble(read_rules(paths, builtin=builtin))


def load_rules_in_child(
    paths: Iterable[str | os.PathLike[str]] = (), *, builtin: bool = True
) -> LoadResult:
    """As `load_rules`, with the parsing done in a child process that is gone afterwards.

    Raises SensorError when the child does not answer.
    """
    request = json.dumps({"paths": [os.fspath(path) for path in paths], "builtin": builtin})
    # The child must find the same package as we are, and nothing in the working directory (-P).
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    try:
        # in memory: the root may be read-only, and /tmp with it
        with os.fdopen(os.memfd_create("sensor-rules"), "w+b") as file:
            file.write(request.encode("utf-8", "surrogateescape"))
            file.seek(0)
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "sensor.rules.load_child"],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
        read, errors = answer(child)
    except OSError as error:  # a TimeoutError is one, too
        raise SensorError(f"the process that reads the rules did not answer: {error}") from error
    if child.returncode != 0:
        last = errors.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        raise SensorError(f"the process that reads the rules ended with {child.returncode}: {last}")
    return _assemble(pickle.loads(read))  # noqa: S301 - from our own child, over its pipe


def _assemble(read: list[ReadRule | RuleError]) -> LoadResult:
    """Compiles what was read, and settles which of two rules with the same id stands."""
    rules: dict[str, Rule] = {}
    errors: list[RuleError] = []
    notices: list[str] = []
    for item in read:
        if isinstance(item, RuleError):
            errors.append(item)
            continue
        first = rules.get(item.id)
        if first is not None and not (first.builtin and not item.builtin):
            message = f"the id {printable(item.id)!r} is taken by {first.path}"
            errors.append(RuleError(message, location=Location(path=item.path)))
            continue
        rule = _compile(item)
        if isinstance(rule, RuleError):
            errors.append(rule)
            continue
        if first is not None:
            notices.append(f"{rule.path} replaces the built-in rule {first.name!r}")
        rules[rule.id] = rule
    return LoadResult(
        rules=tuple(rule for rule in rules.values() if rule.active),
        inactive=tuple(rule for rule in rules.values() if not rule.active),
        errors=tuple(errors),
        notices=tuple(notices),
    )


def _compile(read: ReadRule) -> Rule | RuleError:
    query: Query | None = None
    reason = read.inactive_reason
    if read.tree is not None:
        try:
            query = compile_ast(read.tree, schema=DEFAULT_SCHEMA)
        except RuleSyntaxError as error:
            return read.place.relocate(error)
        reason = query.inactive_reason
    file = read.file
    if not file.enabled:
        reason = "disabled in its file"
    return Rule(
        id=read.id,
        name=file.name,
        query_text=file.query,
        path=read.path,
        format=read.format,
        builtin=read.builtin,
        query=query,
        inactive_reason=reason,
        description=file.description.strip(),
        severity=file.severity,
        risk_score=SEVERITY_NUMBER[file.severity] if file.risk_score is None else file.risk_score,
        tags=_texts(file.tags),
        threat=file.threat,
        interval=int(file.interval[:-1]) * _SECONDS[file.interval[-1]],
        max_alerts=file.max_alerts or file.max_signals or 100,
        version=file.version,
        author=_texts(file.author),
        license=file.license,
        references=_texts(file.references),
        note=file.note.strip(),
        false_positives=_texts(file.false_positives),
        enabled=file.enabled,
        exceptions=read.exceptions,
        tests=read.tests,
    )


def _texts(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
