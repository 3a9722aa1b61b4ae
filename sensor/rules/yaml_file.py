"""Our YAML rule files: text in, a `RuleFile` and the place of each of its values out, or every error.

YAML is read by the rules of its version 1.2, so that `no` is a word and not a boolean. What a rule
never needs and an attacker would use is refused: anchors and aliases, tags, deep nesting, the same
key twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from sensor.rules.rule_file import Path, RuleFile, dotted, explain, unknown_keys
from sensor.rules.source import QueryPlace, error_at

if TYPE_CHECKING:
    from sensor.errors import RuleError

MAX_DEPTH = 32
MAX_ERRORS = 20

# libyaml's parser where PyYAML was built with it: the same answers, ten times faster.
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?P<fraction>\.[0-9]{1,17})?", re.ASCII)
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlRule:
    """A rule file that has a rule's shape.

    `marks` maps the path of a value, such as `("tests", 0)`, to the index in the text where it, or
    its key, begins. `errors` are about keys that should not be there.
    """

    file: RuleFile
    place: QueryPlace
    marks: dict[Path, int]
    errors: list[RuleError]


class _ReadError(Exception):
    """One or more errors of one file."""

    def __init__(self, errors: list[RuleError]) -> None:
        self.errors = errors
        super().__init__(f"{len(errors)} errors")


def read_yaml_rule(text: str, path: str) -> YamlRule | list[RuleError]:
    """Read the rule in the text of a YAML file, or say all that is wrong with it."""
    try:
        return _read(text, path)
    except _ReadError as errors:
        return errors.errors


def _read(text: str, path: str) -> YamlRule:
    root = _compose(text, path)
    reader = _Reader(text, path)
    value = reader.value(root, ())
    if not isinstance(value, dict):
        raise _ReadError([reader.error("a rule is a mapping: `name: …`, `query: …`", ())])
    reader.errors.extend(
        reader.error(message, step)
        for step, message in islice(unknown_keys(RuleFile, value), MAX_ERRORS)
    )
    try:
        file = msgspec.convert(value, RuleFile)
    except msgspec.ValidationError as error:
        message, step = explain(error)
        errors = [*reader.errors[: MAX_ERRORS - 1], reader.error(message, step)]
        raise _ReadError(errors) from error
    if not file.query.strip():
        errors = [*reader.errors[: MAX_ERRORS - 1], reader.error("missing or empty", ("query",))]
        raise _ReadError(errors)
    return YamlRule(
        file=file,
        place=reader.place(root, file.query),
        marks=reader.marks,
        errors=reader.errors[:MAX_ERRORS],
    )


def _compose(text: str, path: str) -> yaml.Node:
    """Return the tree of the document. Events come first: they are bounded where a tree is not."""
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_PARSER):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if refused := _refusal(event, depth):
                index = getattr(event.start_mark, "index", 0)
                raise _ReadError([error_at(refused, path=path, text=text, index=index)])
        root: yaml.Node | None = yaml.compose(text, Loader=_PARSER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"not YAML: {error.problem or error.context}"
        index = getattr(mark, "index", 0)
        raise _ReadError([error_at(message, path=path, text=text, index=index)]) from error
    except yaml.YAMLError as error:
        # The reader's: a character that YAML does not allow. libyaml counts its position in bytes.
        message = f"not YAML: {getattr(error, 'reason', 'unreadable')}"
        position = max(0, getattr(error, "position", 0) or 0)
        index = len(text.encode()[:position].decode(errors="ignore"))
        raise _ReadError([error_at(message, path=path, text=text, index=index)]) from error
    if root is None:
        raise _ReadError([error_at("the file is empty", path=path, text=text, index=0)])
    return root


def _refusal(event: yaml.Event, depth: int) -> str | None:
    """Why a rule file may not contain this event."""
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        return "anchors and aliases are not used in rules"
    if getattr(event, "tag", None):
        return "tags are not used in rules"
    if depth > MAX_DEPTH:
        return f"nested more than {MAX_DEPTH} deep"
    return None


class _Reader:
    """Turns nodes into plain values, and remembers where each stands."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.marks: dict[Path, int] = {}
        self.errors: list[RuleError] = []

    def error(self, message: str, step: Path) -> RuleError:
        """Make an error at a value's place, or at the nearest value around it in the file."""
        named = f"{dotted(step)}: {message}" if step else message
        while step not in self.marks and step:
            step = step[:-1]
        return self._at(named, self.marks.get(step, 0))

    def _at(self, message: str, index: int) -> RuleError:
        return error_at(message, path=self.path, text=self.text, index=index)

    def value(self, node: yaml.Node, step: Path) -> Any:
        self.marks.setdefault(step, node.start_mark.index)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, step)
        return [self.value(each, (*step, index)) for index, each in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, step: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.errors.append(self._at("a key is a word", key_node.start_mark.index))
                continue
            key = key_node.value
            inner = (*step, key)
            if key in result:
                message = f"`{dotted(inner)}` stands here a second time"
                self.errors.append(self._at(message, key_node.start_mark.index))
                continue
            # An error about a value shows its key: that is where a reader looks.
            self.marks[inner] = key_node.start_mark.index
            result[key] = self.value(value_node, inner)
        return result

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if node.style:  # quoted or a block
            return text
        if text in _WORDS:
            return _WORDS[text]
        if match := _NUMBER.fullmatch(text):
            return float(text) if match["fraction"] else int(text)
        return text

    def place(self, root: yaml.Node, query: str) -> QueryPlace:
        """Where the characters of the query stand: past the opening quote or the block's header."""
        node = next(value for key, value in root.value if key.value == "query")
        start: int = node.start_mark.index
        if node.style in ("|", ">"):
            start = self.text.find("\n", start) + 1
        elif node.style in ("'", '"'):
            start += 1
        return QueryPlace(
            path=self.path, text=self.text, query=query, start=start, escapes=node.style == '"'
        )
