"""One configuration out of layers: each value checked where it stands, and known by its origin.

In: mappings, in rising order of their say. Out: the values that hold, each with its origin, or all
errors at once, each with the place it came from and the key's path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import msgspec

from sensor.config.schema import Config, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value came from; `name` is the path of a file, a variable, or a flag."""

    kind: Literal["default", "file", "config.d", "variable", "flag"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()

    @property
    def place(self) -> str:
        """How an error begins: a file by its path alone."""
        return self.name if self.kind in ("file", "config.d") else str(self)


DEFAULT = Origin(kind="default")


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says.

    Its lists follow those of the layers below, an empty one empties them; with `replaces` they stand
    in their place.
    """

    origin: Origin
    data: Mapping[Any, Any]
    replaces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """What holds. `origins` is by the key's path, and by element where a list has some: `rules[0]`."""

    config: Config
    origins: dict[str, Origin]
    warnings: tuple[str, ...] = ()


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a sentence about a name that is not known: the known one it may stand for."""
    import difflib  # noqa: PLC0415 - only where something is wrong

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean `{close[0]}`?" if close else ""


def keys(section: type[Section] = Config) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The path of every key that is no section, with its type."""
    for name, kind in _fields(section).items():
        if _is_section(kind):
            yield from (((name, *path), inner) for path, inner in keys(kind))
        else:
            yield (name,), kind


@cache
def _fields(section: type[Section]) -> dict[str, Any]:
    return {each.name: each.type for each in msgspec.structs.fields(section)}


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


@dataclass(slots=True)
class Merger:
    """Takes layers one after the other; `errors` grows with what is wrong in them."""

    errors: list[str] = field(default_factory=list)
    _values: dict[tuple[str, ...], Any] = field(default_factory=dict)
    _origins: dict[tuple[str, ...], list[Origin]] = field(default_factory=dict)

    def add(self, layer: Layer) -> None:
        self._add(layer, layer.data, Config, ())

    def result(self, warnings: Sequence[str] = ()) -> Effective | None:
        """None where there are errors."""
        config = self._build(Config, ())
        if config is None or self.errors:
            return None
        origins: dict[str, Origin] = {}
        for path, _ in keys():
            name = ".".join(path)
            of_value = self._origins.get(path, [])
            if self._values.get(path) and isinstance(self._values[path], list):
                origins |= {f"{name}[{index}]": each for index, each in enumerate(of_value)}
            else:
                origins[name] = of_value[0] if of_value else DEFAULT
        return Effective(config=config, origins=origins, warnings=tuple(warnings))

    def _add(
        self, layer: Layer, data: Mapping[Any, Any], section: type[Section], above: tuple[str, ...]
    ) -> None:
        known = _fields(section)
        for key, value in data.items():
            path = (*above, str(key))
            where = f"{layer.origin.place}: {'.'.join(path)}"
            kind = known.get(key)
            if kind is None:
                self.errors.append(f"{where}: unknown key{did_you_mean(str(key), known)}")
            elif not _is_section(kind):
                self._put(layer, path, value, kind, where)
            elif isinstance(value, dict):
                self._add(layer, value, kind, path)
            elif value is not None:  # a section whose keys are all commented out is empty
                self.errors.append(f"{where}: expected a mapping")

    def _put(self, layer: Layer, path: tuple[str, ...], value: Any, kind: Any, where: str) -> None:
        try:
            value = msgspec.convert(value, kind)
        except msgspec.ValidationError as exc:
            self.errors.append(f"{where}{_explain(str(exc))}")
            return
        if not isinstance(value, list):
            self._values[path] = value
            self._origins[path] = [layer.origin]
            return
        # null, the default of some lists, is as an empty one
        before = self._values.get(path) or []
        if not value or layer.replaces:
            before = []
        # An empty list has an origin, too, though no element.
        origins = self._origins.get(path, [])[: len(before)]
        self._values[path] = [*before, *value]
        self._origins[path] = origins + [layer.origin] * (len(value) or 1)

    def _build(self, section: type[Section], above: tuple[str, ...]) -> Any:
        values: dict[str, Any] = {}
        for name, kind in _fields(section).items():
            path = (*above, name)
            if _is_section(kind):
                values[name] = self._build(kind, path)
            elif path in self._values:
                values[name] = self._values[path]
        try:
            return section(**values)
        except ValueError as exc:  # what a section says of its keys together: `key: reason`
            path = (*above, str(exc).partition(":")[0])
            of_value = self._origins.get(path)
            place = f"{of_value[-1].place}: " if of_value else ""
            self.errors.append(f"{place}{'.'.join((*above, str(exc)))}")
            return None


def _explain(message: str) -> str:
    """Msgspec's sentence behind the key: `[0]: expected `str`, got `int``."""
    where = re.search(r" - at `\$([^`]*)`$", message)
    text = message[: where.start()] if where else message
    return f"{where.group(1) if where else ''}: {text[:1].lower()}{text[1:]}"
