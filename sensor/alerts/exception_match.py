"""What an exception's conditions mean: an entry in, one test of a document out.

Patterns run in linear time. A condition on what a process says about itself (its argv, the script it
runs) is only as trustworthy as that process; the container's image and name are not its to choose.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any

from sensor.alerts.fields import get, text, texts
from sensor.rules.compile import compile_ast
from sensor.rules.patterns import Globs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sensor.alerts.exception_file import ReadException

# Programs that run the file named by their first argument that is no option.
_INTERPRETER = re.compile(
    r"(?:ba|da|a|z|k|mk|pdk|c|tc|fi|yash|oil)?sh|busybox|python[\d.]*|pypy[\d.]*|perl[\d.]*"
    r"|ruby[\d.]*|node|nodejs|php[\d.]*|lua[\d.]*|tclsh[\d.]*",
    re.ASCII,
)
# Their options after which there is no file, but a program text or a module's name.
_NO_FILE = re.compile(r"-[A-Za-z]*[cem]|--eval|--execute|--command", re.ASCII)
_OPTIONS_LOOKED_AT = 16

_RELATIVES = ("parent", "group_leader", "session_leader", "entry_leader")


def document_test(read: ReadException) -> Callable[[dict[str, Any]], bool]:
    """Make the test. Raises RuleSyntaxError for a condition that means nothing."""
    own = read.text
    tests: list[Callable[[dict[str, Any]], bool]] = []
    # The cheap ones first.
    for patterns, values in (
        (own.container, _containers),
        (own.namespace, _field("orchestrator.namespace")),
        (own.user, _users),
        (own.executable, _field("process.executable")),
        (own.image, images),
        (own.command_line, _field("process.command_line")),
        (own.script, scripts),
    ):
        if patterns:
            tests.append(_any_of(patterns, values))
    tests.extend(_any_of(pattern, _arguments) for pattern in _each(own.args))
    tests.extend(_label(key, pattern) for key, pattern in own.labels.items())
    if read.tree is not None:
        query = compile_ast(
            read.tree, path=read.location.path, first_line=(read.location.line or 1) - 1
        )
        tests.append(query.matches)
    return lambda document: all(test(document) for test in tests)


def scripts(document: dict[str, Any]) -> Iterator[str]:
    """Paths of the scripts that the process, its parent or its leaders run."""
    process = get(document, "process")
    if not isinstance(process, dict):
        return
    yield from _script(process)
    for name in _RELATIVES:
        if isinstance(relative := process.get(name), dict):
            yield from _script(relative)


def images(document: dict[str, Any]) -> Iterator[str]:
    """The names of the image: bare, with each tag, and with each digest."""
    name = text(document, "container.image.name")
    if not name:
        return
    yield name
    for tag in texts(document, "container.image.tag"):
        yield f"{name}:{tag}"
    for digest in texts(document, "container.image.hash.all"):
        yield f"{name}@{digest}"


def _script(process: dict[str, Any]) -> Iterator[str]:
    executable = process.get("executable")
    args = texts(process, "args")
    if not isinstance(executable, str) or not _INTERPRETER.fullmatch(
        posixpath.basename(executable)
    ):
        return
    for argument in args[1:_OPTIONS_LOOKED_AT]:
        if _NO_FILE.fullmatch(argument):
            return
        if not argument.startswith("-"):
            directory = process.get("working_directory")
            if isinstance(directory, str) and not argument.startswith("/"):
                yield posixpath.normpath(posixpath.join(directory, argument))
            yield argument
            return


def _field(name: str) -> Callable[[dict[str, Any]], list[str]]:
    return lambda document: texts(document, name)


def _arguments(document: dict[str, Any]) -> list[str]:
    return texts(document, "process.args")


def _containers(document: dict[str, Any]) -> list[str]:
    return [text(document, "container.name"), text(document, "container.id")]


def _users(document: dict[str, Any]) -> list[str]:
    return [text(document, "user.name"), text(document, "user.id")]


def _each(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _any_of(
    patterns: str | list[str], values: Callable[[dict[str, Any]], Any]
) -> Callable[[dict[str, Any]], bool]:
    """Make the test "one of the values matches one of the patterns". No value is no match."""
    matches = Globs(_each(patterns), insensitive=False).test()
    return lambda document: any(value and matches(value) for value in values(document))


def _label(key: str, pattern: str) -> Callable[[dict[str, Any]], bool]:
    """Make the test of one label; its key may hold dots and so is no field's name."""
    matches = Globs([pattern], insensitive=False).test()

    def test(document: dict[str, Any]) -> bool:
        labels = get(document, "container.labels")
        value = labels.get(key) if isinstance(labels, dict) else None
        return isinstance(value, str) and matches(value)

    return test
