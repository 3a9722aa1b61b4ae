"""Texts without their secrets: a text in, the same with each secret cut, and how many of which kind.

All rules are first asked at once whether there is anything to find; almost always there is not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

from sensor.alerts.encode import well_formed
from sensor.alerts.redaction.names import CUT, KINDS, is_secret, kind_of_name
from sensor.alerts.redaction.patterns import ANNOUNCED, RULES, RedactionRule
from sensor.errors import ConfigurationError

_CUT_BYTES: Final = CUT.encode()
_LEAST: Final = 6  # bytes: no rule matches less
_DFA_BYTES: Final = 1 << 20  # with less, RE2 falls back to what is some hundred times slower
_MATCHES_MAX: Final = 1000  # by one rule in one text; beyond it all the rest of the text goes
_SECRET, _NAME = b"secret", b"name"  # groups
_GROUP = re.compile(r"\(\?P<\w+>")
_MIXED = (re.compile(r"[a-z]"), re.compile(r"[A-Z]"), re.compile(r"[0-9]"))

Span = tuple[int, int, str]


class TextRedactor:
    """Finds secrets with the built-in rules and further ones; `without` names kinds to leave alone.

    Values in `keep` are no secrets. Raises ConfigurationError for a pattern that RE2 does not take,
    and names it by its place, `redaction.rules[N]`.
    """

    def __init__(
        self,
        *,
        rules: Iterable[RedactionRule] = (),
        without: Iterable[str] = (),
        keep: Iterable[str] = (),
    ) -> None:
        import re2  # noqa: PLC0415 - memory: where nothing alerts nothing is redacted

        rules = tuple(rules)
        self._without = frozenset(without)
        known = KINDS | {rule.kind for rule in (*RULES, *rules)} - {ANNOUNCED}
        if unknown := sorted(self._without - known):
            raise ConfigurationError(
                f"redaction.without: no such kind: {', '.join(unknown)}; there are "
                f"{', '.join(sorted(known))}"
            )
        self.keep = frozenset(keep)
        options = re2.Options()
        options.max_mem = _DFA_BYTES
        options.log_errors = False

        def compiled(pattern: str) -> Any:
            return re2.compile(pattern.encode(), options)

        # One by one they are needed where there is something to cut, which is seldom.
        self._compile = cache(compiled)
        self._rules = [(rule.kind, rule.pattern) for rule in RULES if self.wants(rule.kind)]
        for index, rule in enumerate(rules):
            try:
                self._compile(rule.pattern)
            except re2.error as error:
                reason = error.args[0] if error.args else ""
                reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
                raise ConfigurationError(
                    f"redaction.rules[{index}].pattern: no pattern of RE2: {reason}"
                ) from error
            self._rules.append((rule.kind, rule.pattern))
        self._any = compiled(
            "|".join(f"(?:{_GROUP.sub('(?:', pattern)})" for _, pattern in self._rules)
        )

    def wants(self, kind: str | None) -> bool:
        """Whether this kind of secret is to be cut."""
        return kind is not None and kind not in self._without

    def text(self, value: str, found: Counter[str]) -> str:
        """The text without its secrets, which are counted by kind; without any, the very same."""
        if len(value) < _LEAST:
            return value
        try:
            data = value.encode()
        except UnicodeEncodeError:
            # Bytes that are no UTF-8: what is cut is cut from the text as it is written in JSON.
            data = well_formed(value).encode()
        if self._any.search(data) is None:
            return value
        spans = sorted(self._spans(data))
        if not spans:
            return value
        return _cut(data, spans, found).decode()

    def _spans(self, data: bytes) -> Iterator[Span]:
        for kind, pattern in self._rules:
            for number, match in enumerate(self._compile(pattern).finditer(data)):
                if number == _MATCHES_MAX:
                    # More secrets than any text has: somebody wants this to take long.
                    yield match.start(), len(data), kind
                    break
                yield from self._of(match, kind)

    def _of(self, match: Any, kind: str) -> Iterator[Span]:
        groups = match.re.groupindex
        group = groups.get(_SECRET, 0)
        start, end = match.span(group)
        if end <= start:
            return
        value = data_text(match.group(group))
        if _NAME in groups:
            name = data_text(match.group(groups[_NAME]))
            announced = kind_of_name(name)
            if not self.wants(announced) or not is_secret(value, name, self.keep):
                return
            kind = announced or kind
        elif value in self.keep or value == CUT:
            return
        if kind == "aws_secret_access_key" and not all(each.search(value) for each in _MIXED):
            return
        yield start, end, kind


def data_text(data: bytes) -> str:
    """Part of a text that was encoded; patterns do not cut characters apart, but who knows."""
    return data.decode(errors="replace")


def _cut(data: bytes, spans: list[Span], found: Counter[str]) -> bytes:
    """Put the mark in place of each span; what overlaps is one."""
    parts, at = [], 0
    last_end = -1
    for start, end, kind in spans:
        if start < last_end:
            # Inside or across the one before: that much more goes, under the first one's kind.
            at = last_end = max(last_end, end)
            continue
        parts += [data[at:start], _CUT_BYTES]
        at = last_end = end
        found[kind] += 1
    parts.append(data[at:])
    return b"".join(parts)
