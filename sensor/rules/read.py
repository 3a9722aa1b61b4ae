"""Rule files from disk: paths in, rules with parsed queries out, and every error of every file.

This is the half of loading that needs the parsers of YAML, TOML and EQL, and so the half that a
running sensor leaves to a child process (`load_child`). What it makes can be pickled.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sensor.errors import Location, RuleError, RuleSyntaxError
from sensor.rules.rule import LocatedTest, RawException
from sensor.rules.source import QueryPlace, error_at, locate, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sensor.rules.ast import Query as QueryTree
    from sensor.rules.rule_file import RuleFile

PACK = Path(__file__).parent / "pack"

MAX_FILE_BYTES = 1024 * 1024
# Parsers may take the square of a line's length; no query or guide has lines near this long.
MAX_LINE_CHARACTERS = 64 * 1024
MAX_FILES = 10_000

_FORMATS: dict[str, Literal["yaml", "toml"]] = {".yml": "yaml", ".yaml": "yaml", ".toml": "toml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRule:
    """A rule file that was read, its query parsed but not compiled.

    `tree` is None where `inactive_reason` says why there is nothing to parse.
    """

    file: RuleFile
    path: str
    format: Literal["yaml", "toml"]
    builtin: bool
    place: QueryPlace
    tree: QueryTree | None = None
    inactive_reason: str | None = None
    exceptions: tuple[RawException, ...] = ()
    tests: tuple[LocatedTest, ...] = ()

    @property
    def id(self) -> str:
        """The id the file gives, or its name without the ending where it gives none."""
        return self.file.id or self.file.rule_id or Path(self.path).stem


def read_rules(
    paths: Iterable[str | os.PathLike[str]], *, builtin: bool
) -> list[ReadRule | RuleError]:
    """Read every rule file at or below the paths, the built-in ones first where asked for.

    Directories are searched recursively for `*.yml`, `*.yaml` and `*.toml`, in the order of their
    names; hidden ones are left out. A file that is reached twice counts once.
    """
    results: list[ReadRule | RuleError] = []
    seen: set[str] = set()
    roots = ([(PACK, True)] if builtin else []) + [(Path(path), False) for path in paths]
    for root, is_builtin in roots:
        for found in _files(root):
            if isinstance(found, RuleError):
                results.append(found)
            elif (real := os.path.realpath(found)) not in seen:
                if len(seen) == MAX_FILES:
                    results.append(_plain_error(f"more than {MAX_FILES} rule files", root))
                    return results
                seen.add(real)
                results.extend(read_rule(found, builtin=is_builtin))
    return results


def read_rule(path: Path, *, builtin: bool = False) -> list[ReadRule] | list[RuleError]:
    """Return the rule in one file, as a list of one, or the errors in it."""
    text = _text(path)
    if isinstance(text, RuleError):
        return [text]
    if _FORMATS[path.suffix] == "toml":
        return _from_toml(text, str(path), builtin)
    return _from_yaml(text, str(path), builtin)


def _from_yaml(text: str, path: str, builtin: bool) -> list[ReadRule] | list[RuleError]:
    from sensor.rules.yaml_file import read_yaml_rule  # noqa: PLC0415 - PyYAML

    read = read_yaml_rule(text, path)
    if isinstance(read, list):
        return read
    file = read.file
    for mine, elastics in (("id", "rule_id"), ("max_alerts", "max_signals")):
        if getattr(file, mine) is not None and getattr(file, elastics) is not None:
            index = read.marks[elastics,]
            message = f"`{elastics}` is another name of `{mine}`: give one of them"
            read.errors.append(error_at(message, path=path, text=text, index=index))

    def place(step: tuple[str | int, ...]) -> Location:
        line, column = locate(text, read.marks[step])
        return Location(path=path, line=line, column=column)

    exceptions = tuple(
        RawException(value=value, location=place(("exceptions", index)))
        for index, value in enumerate(file.exceptions)
    )
    tests = tuple(
        LocatedTest(test=test, location=place(("tests", index)))
        for index, test in enumerate(file.tests)
    )
    tree = _parse(read.place)
    if isinstance(tree, RuleError):
        return [*read.errors, tree]
    if read.errors:
        return read.errors
    return [
        ReadRule(
            file=file, path=path, format="yaml", builtin=builtin, place=read.place, tree=tree,
            exceptions=exceptions, tests=tests,
        )
    ]  # fmt: skip


def _from_toml(text: str, path: str, builtin: bool) -> list[ReadRule] | list[RuleError]:
    from sensor.rules.toml_file import read_toml_rule  # noqa: PLC0415 - tomllib

    read = read_toml_rule(text, path)
    if isinstance(read, list):
        return read
    if read.other_language is not None:
        reason = f"{printable(read.other_language[:100])}: only EQL rules run here"
        return [
            ReadRule(
                file=read.file, path=path, format="toml", builtin=builtin, place=read.place,
                inactive_reason=reason,
            )
        ]  # fmt: skip
    tree = _parse(read.place)
    if isinstance(tree, RuleError):
        return [tree]
    return [
        ReadRule(
            file=read.file, path=path, format="toml", builtin=builtin, place=read.place, tree=tree
        )
    ]


def _parse(place: QueryPlace) -> QueryTree | RuleError:
    from sensor.rules.parse import parse_query  # noqa: PLC0415 - Lark

    try:
        return parse_query(place.query)
    except RuleSyntaxError as error:
        return place.relocate(error)


def _files(root: Path) -> Iterator[Path | RuleError]:
    """Yield the rule files at or below a path."""
    if not root.is_dir():
        yield root
        return
    problems: list[RuleError] = []

    def remember(error: OSError) -> None:
        problems.append(_plain_error(error.strerror or str(error), Path(error.filename)))

    for directory, names, files in os.walk(root, onerror=remember):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix in _FORMATS:
                yield Path(directory, name)
    yield from problems


def _text(path: Path) -> str | RuleError:
    r"""Read the text of a regular file of bounded size. Line ends come out as `\\n`."""
    if path.suffix not in _FORMATS and os.path.lexists(path):
        return _plain_error("a rule file's name ends in .yml, .yaml or .toml", path)
    try:
        # A pipe or a device with a rule's name must not hang the sensor.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return _plain_error("not a regular file", path)
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return _plain_error(error.strerror or str(error), path)
    if len(data) > MAX_FILE_BYTES:
        return _plain_error(f"larger than {MAX_FILE_BYTES} bytes", path)
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        good = data[: error.start].decode("utf-8", "replace")
        return error_at("not UTF-8", path=str(path), text=good, index=len(good))
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            location = Location(path=str(path), line=number, column=MAX_LINE_CHARACTERS + 1)
            return RuleError(
                f"a line longer than {MAX_LINE_CHARACTERS} characters", location=location
            )
    return text


def _plain_error(message: str, path: Path) -> RuleError:
    """Make an error about a file as a whole."""
    return RuleError(message, location=Location(path=str(path)))
