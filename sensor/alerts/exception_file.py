"""Exceptions as they are written: text of `exceptions.d/*.yml` in, typed entries and errors out.

The same entries stand in a rule file's own `exceptions`, for that rule. Reading needs the parsers of
YAML and EQL; what comes of it can be pickled, so that a running sensor leaves it to a child process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec

from sensor.alerts.windows import Window, WindowText, read_time, read_window
from sensor.errors import Location, RuleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sensor.rules import ast
    from sensor.rules.rule import RawException

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 16

NEVER = "never"
_NO_MAPPING = "an exception is a mapping: `id: …`, `reason: …`"
_PLACEHOLDERS = {"todo", "fixme", "tbd", "?", "-", "…"}

_Line = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
_Patterns = str | list[str]


class ExceptionText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one exception. All conditions that are given must hold.

    Of the patterns of one key any may match, of `args` and `labels` all must; `*` and `?` are
    wildcards. `rules` is a rule's id, several, or `all`.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    reason: _Line
    owner: _Line
    expires: _Line
    rules: _Patterns = []
    tags: _Patterns = []
    condition: str | None = None
    executable: _Patterns = []
    script: _Patterns = []
    args: _Patterns = []
    command_line: _Patterns = []
    user: _Patterns = []
    image: _Patterns = []
    labels: dict[str, str] = {}
    namespace: _Patterns = []
    container: _Patterns = []
    windows: list[WindowText] = []
    record: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadException:
    """One exception that has the right shape, its query parsed but not compiled.

    `expires` is in seconds since the epoch, None for never. `rule_id` is set for one that stands in
    a rule's own file.
    """

    text: ExceptionText
    location: Location
    expires: float | None
    windows: tuple[Window, ...]
    tree: ast.Query | None = None
    rule_id: str | None = None


def read_exceptions(
    paths: Iterable[str | Path], own: Iterable[tuple[str, Sequence[RawException]]] = ()
) -> list[ReadException | RuleError]:
    """Read the files at or directly below the paths, in the order of their names, and rules' own.

    `own` has the id of each rule that has exceptions in its own file, with those. Whatever is wrong
    with an entry is an error in its place; the others stand.
    """
    results: list[ReadException | RuleError] = []
    for path in paths:
        for file in _files(Path(path)):
            results.extend(_read_file(file) if isinstance(file, Path) else [file])
    for rule_id, entries in own:
        results.extend(_read_entry(raw, rule_id) for raw in entries)
    return list(_unique(results))


def _unique(
    results: Iterable[ReadException | RuleError],
) -> Iterator[ReadException | RuleError]:
    seen: dict[str, Location] = {}
    for each in results:
        if isinstance(each, ReadException):
            if each.text.id in seen:
                message = f"the id {each.text.id} is taken by {seen[each.text.id]}"
                yield RuleError(message, location=each.location)
                continue
            seen[each.text.id] = each.location
        yield each


def _files(path: Path) -> Iterator[Path | RuleError]:
    if not path.is_dir():
        yield path
        return
    try:
        names = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        yield RuleError(f"cannot be read: {error.strerror}", location=Location(path=str(path)))
        return
    yield from (name for name in names if name.suffix in (".yml", ".yaml"))


def _read_file(path: Path) -> list[ReadException | RuleError]:
    import yaml  # noqa: PLC0415 - loaded only where there are files

    here = Location(path=str(path))
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        text = data.decode()
    except OSError as error:
        return [RuleError(f"cannot be read: {error.strerror}", location=here)]
    except UnicodeDecodeError:
        return [RuleError("is not UTF-8", location=here)]
    if len(data) > MAX_FILE_BYTES:
        return [RuleError(f"is larger than {MAX_FILE_BYTES} bytes", location=here)]
    try:
        value, root = _parse(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _location(path, mark) if mark is not None else here
        return [RuleError(f"is not YAML: {error.problem or error.context}", location=place)]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        return [RuleError(f"is not YAML: {error}", location=here)]
    if value in (None, ""):
        return []
    if not isinstance(value, dict) or list(value) != ["exceptions"]:
        return [RuleError("a file of exceptions has one key, `exceptions:`", location=here)]
    entries = value["exceptions"] or []
    if not isinstance(entries, list):
        return [RuleError("`exceptions` is a list", location=here)]
    nodes = root.value[0][1].value
    return [
        read_value(entry, _location(path, node.start_mark), None)
        for entry, node in zip(entries, nodes, strict=False)
    ]


def _parse(text: str) -> tuple[Any, Any]:
    """The value of a YAML text, in which every scalar is a text, and its node. Raises YAMLError."""
    import yaml  # noqa: PLC0415 - loaded only where there are files

    def refuse(problem: str, mark: Any) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)

    depth = 0
    # Events first: they are bounded where a tree with aliases is not.
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            refuse("anchors and aliases are not used here", event.start_mark)
        if depth > MAX_DEPTH:
            refuse(f"nested more than {MAX_DEPTH} deep", event.start_mark)
    loader = yaml.BaseLoader(text)
    try:
        root = loader.get_single_node()
        return (loader.construct_document(root) if root is not None else None), root
    finally:
        loader.dispose()


def _location(path: Path, mark: Any) -> Location:
    return Location(path=str(path), line=mark.line + 1, column=mark.column + 1)


def _read_entry(raw: RawException, rule_id: str) -> ReadException | RuleError:
    return read_value(_as_text(raw.value), raw.location, rule_id)


def _as_text(value: Any) -> Any:
    """A rule file's values as texts: there, `user: 0` is a number."""
    if isinstance(value, dict):
        return {str(key): _as_text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_as_text(each) for each in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value is None else str(value)


def read_value(value: Any, location: Location, rule_id: str | None) -> ReadException | RuleError:
    """Read one entry as YAML gives it, in which every scalar is a text."""
    try:
        return _checked(value, location, rule_id)
    except ValueError as error:  # msgspec's ValidationError is one
        name = value.get("id") if isinstance(value, dict) else None
        prefix = f"exception {name!r}: " if isinstance(name, str) else "exception: "
        return RuleError(prefix + str(error).replace("`$.", "`"), location=location)
    except RuleError as error:
        return error


def _checked(value: Any, location: Location, rule_id: str | None) -> ReadException:
    if not isinstance(value, dict):
        raise ValueError(_NO_MAPPING)  # noqa: TRY004 - one kind of error for all that is wrong
    for key, each in value.items():
        if each in ("", [], {}) or (isinstance(each, list) and "" in each):
            raise ValueError(f"`{key}` is empty: leave it out, or say what it should match")
    text = msgspec.convert(value, ExceptionText, strict=False)
    for key in ("reason", "owner"):
        if getattr(text, key).strip().lower() in _PLACEHOLDERS:
            raise ValueError(f"`{key}` is still to be written")
    if rule_id is not None and (text.rules or text.tags):
        raise ValueError("in a rule's own file it is for that rule: leave out `rules` and `tags`")
    if rule_id is None and not text.rules and not text.tags:
        raise ValueError("say which `rules` or `tags` it is for, or `rules: all`")
    if not text.windows and not has_condition(text):
        raise ValueError("without a condition or a window it would hide everything for good")
    tree = None
    if text.condition is not None:
        from sensor.rules.parse import parse_query  # noqa: PLC0415 - loads the grammar

        # On a line of its own, so that an error's column is the condition's own.
        tree = parse_query(
            f"any where\n{text.condition}",
            path=location.path,
            first_line=(location.line or 1) - 1,
        )
        if tree.pipes:
            raise ValueError("`condition` is an expression, without `|`")
    return ReadException(
        text=text,
        location=location,
        expires=_expires(text.expires),
        windows=tuple(read_window(each) for each in text.windows),
        tree=tree,
        rule_id=rule_id,
    )


def has_condition(text: ExceptionText) -> bool:
    """Whether the exception looks at the event at all."""
    return bool(
        text.condition
        or text.executable
        or text.script
        or text.args
        or text.command_line
        or text.user
        or text.image
        or text.labels
        or text.namespace
        or text.container
    )


def _expires(value: str) -> float | None:
    """The end of the day named, in UTC, or the time named."""
    if value == NEVER:
        return None
    time = read_time(value, "UTC", key="expires")
    if "T" not in value and " " not in value:
        time += timedelta(days=1).total_seconds()
    return time
