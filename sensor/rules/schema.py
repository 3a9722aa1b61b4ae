"""The fields a rule may name.

In: a field's name. Out: its type, where its value comes from, an example and a description; nothing for a
name that is neither ours nor in ECS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldInfo:
    """One field. `source` says where the sensor gets it; None for a field of ECS that it lacks."""

    type: str
    source: str | None = None
    example: str = ""
    description: str = ""


class Schema:
    """A set of known fields."""

    def __init__(self, fields: Mapping[str, FieldInfo]) -> None:
        self._fields = fields

    def get(self, name: str) -> FieldInfo | None:
        return self._fields.get(name)

    def names(self) -> Iterable[str]:
        return self._fields.keys()
