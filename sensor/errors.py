"""The exception tree.

SensorError
├── ConfigurationError       a file, key or flag of the user's is wrong (exit code 2)
│   └── RuleError            a rule file or its query
│       └── RuleSyntaxError  a query that does not parse or means nothing, with line and column
├── ProbeError               the kernel side cannot be loaded, attached or read (exit code 1)
│   ├── PrivilegeError       root is missing, or privileges cannot be dropped
│   └── SightLostError       it saw, and will not see again without a fresh start (exit code 3)
├── OutputError              what an observer of events writes to takes no more (exit code 1)
├── DecodeError              a record from the kernel breaks the ABI: counted, never fatal
└── SourceError              a metadata source (Docker, CRI, Kubernetes) did not answer
"""

from __future__ import annotations

from dataclasses import dataclass


class SensorError(Exception):
    """Root of all errors the sensor raises on purpose."""


class ConfigurationError(SensorError):
    """What the user wrote cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place in a user's file. Lines and columns count from 1; None where unknown."""

    path: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [self.path or "<query>"]
        if self.line is not None:
            parts.append(str(self.line))
            if self.column is not None:
                parts.append(str(self.column))
        return ":".join(parts)


class RuleError(ConfigurationError):
    """A rule file that cannot be used. `snippet` is the offending line with a caret below it."""

    def __init__(
        self, message: str, *, location: Location | None = None, snippet: str | None = None
    ) -> None:
        self.message = message
        self.location = location or Location()
        self.snippet = snippet
        super().__init__(message)

    @property
    def line(self) -> int | None:
        return self.location.line

    @property
    def column(self) -> int | None:
        return self.location.column

    def __str__(self) -> str:
        text = f"{self.location}: {self.message}"
        return f"{text}\n{self.snippet}" if self.snippet else text


class RuleSyntaxError(RuleError):
    """A query that does not parse, or names what cannot exist."""


class ProbeError(SensorError):
    """The program in the kernel cannot be compiled, loaded, attached or read."""


class PrivilegeError(ProbeError):
    """Root is missing, or privileges cannot be dropped."""


class SightLostError(ProbeError):
    """The running sensor's program was detached, or the ring can no longer be read."""


class OutputError(SensorError):
    """What an observer of events writes to takes no more, so there is nothing to go on for."""


class DecodeError(SensorError):
    """A record from the kernel breaks the ABI of bpf/events.h."""


class SourceError(SensorError):
    """A source of container metadata did not answer, or answered nonsense."""
