"""The functions of EQL.

In: single values, None where one is missing. Out: a single value, None where there is no answer. Each
function is a plain Python function; `FUNCTIONS` says what it takes. None of them raises for any value.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sensor.rules.patterns import fold
from sensor.rules.values import is_number, parse_decimal, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sensor.rules.ast import Scalar

STRING, NUMBER, BOOLEAN, ANY = "a string", "a number", "a boolean", "anything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """`parameters` are the types taken, of which the last `optional` may be left out.

    With `variadic` the last parameter may be given any number of times. `insensitive` is the `~` form.
    """

    call: Callable[..., Scalar]
    parameters: tuple[str, ...]
    returns: str
    optional: int = 0
    variadic: bool = False
    insensitive: Callable[..., Scalar] | None = None


# Arithmetic, also behind the operators + - * / %


def add(left: Scalar, right: Scalar) -> Scalar:
    """Add; the result of two whole numbers is whole."""
    return _arithmetic(left, right, lambda a, b: a + b)


def subtract(left: Scalar, right: Scalar) -> Scalar:
    """Subtract the second from the first."""
    return _arithmetic(left, right, lambda a, b: a - b)


def multiply(left: Scalar, right: Scalar) -> Scalar:
    """Multiply."""
    return _arithmetic(left, right, lambda a, b: a * b)


def divide(left: Scalar, right: Scalar) -> Scalar:
    """Divide; two whole numbers give the quotient rounded toward zero, as in Java."""

    def quotient(a: Any, b: Any) -> Any:
        if isinstance(a, int) and isinstance(b, int):
            whole = abs(a) // abs(b)
            return whole if (a < 0) == (b < 0) else -whole
        return a / b

    return _arithmetic(left, right, quotient)


def modulo(left: Scalar, right: Scalar) -> Scalar:
    """Give the remainder, with the sign of the dividend, as in Java."""

    def remainder(a: Any, b: Any) -> Any:
        if isinstance(a, int) and isinstance(b, int):
            rest = abs(a) % abs(b)
            return -rest if a < 0 else rest
        return math.fmod(a, b)

    return _arithmetic(left, right, remainder)


def _arithmetic(left: Scalar, right: Scalar, operation: Callable[[Any, Any], Any]) -> Scalar:
    if not is_number(left) or not is_number(right):
        return None
    try:
        result: int | float = operation(left, right)
    except (ArithmeticError, ValueError):
        return None
    # Elasticsearch has 64-bit numbers: past them there is no result, and no growth without bound either.
    if isinstance(result, int) and not -(2**63) <= result < 2**63:
        return None
    return result


# Strings


def _text(value: Scalar) -> str | None:
    # A number in a keyword field is text, so a function over a field takes both.
    return text_of(value)


def _starts_with(source: Scalar, prefix: Scalar) -> Scalar:
    text, part = _text(source), _text(prefix)
    return None if text is None or part is None else text.startswith(part)


def _ends_with(source: Scalar, suffix: Scalar) -> Scalar:
    text, part = _text(source), _text(suffix)
    return None if text is None or part is None else text.endswith(part)


def _contains(source: Scalar, needle: Scalar) -> Scalar:
    text, part = _text(source), _text(needle)
    return None if text is None or part is None else bool(text and part and part in text)


def _folded(function: Callable[..., Scalar]) -> Callable[..., Scalar]:
    """Make the `~` form of a function whose result does not depend on the case it was given."""

    def call(*arguments: Scalar) -> Scalar:
        return function(*(fold(a) if isinstance(a, str) else a for a in arguments))

    return call


def _length(value: Scalar) -> Scalar:
    text = _text(value)
    return None if text is None else len(text)


def _string(value: Scalar) -> Scalar:
    return text_of(value)


def _concat(*values: Scalar) -> Scalar:
    texts = [text_of(value) for value in values]
    return None if None in texts else "".join(text for text in texts if text is not None)


def _index_of(source: Scalar, needle: Scalar, start: Scalar = None) -> Scalar:
    text, part = _text(source), _text(needle)
    if text is None or part is None or not (start is None or is_number(start)):
        return None
    first = max(0, _whole(start) or 0)
    if not part:
        return min(first, len(text))
    found = text.find(part, first)
    return found if found >= 0 else None


def _substring(source: Scalar, start: Scalar, end: Scalar = None) -> Scalar:
    text, first = _text(source), _whole(start)
    last = _whole(end)
    if text is None or first is None or (end is not None and last is None):
        return None
    return text[first:last]


def _whole(value: Scalar) -> int | None:
    if not is_number(value):
        return None
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        return None
    return int(max(-(2.0**31), min(number, 2.0**31)))


def _between(source: Scalar, left: Scalar, right: Scalar, greedy: Scalar = None) -> Scalar:
    return _cut(source, left, right, greedy, lambda text: text)


def _between_insensitive(
    source: Scalar, left: Scalar, right: Scalar, greedy: Scalar = None
) -> Scalar:
    return _cut(source, left, right, greedy, fold)


def _cut(
    source: Scalar, left: Scalar, right: Scalar, greedy: Scalar, folded: Callable[[str], str]
) -> Scalar:
    text, before, after = _text(source), _text(left), _text(right)
    if text is None or before is None or after is None:
        return None
    if not text or not before or not after:
        return text
    searched, before, after = folded(text), folded(before), folded(after)
    start = searched.find(before)
    if start < 0:
        return ""
    start += len(before)
    end = searched.rfind(after) if greedy is True else searched.find(after, start)
    return text[start:end] if end > start else ""


def _number(source: Scalar, base: Scalar = None) -> Scalar:
    if not isinstance(source, str) or not source.isascii() or len(source) > 400:
        return None
    sign, digits = (-1, source[1:]) if source.startswith("-") else (1, source)
    radix = _whole(base) if base is not None else None
    if base is not None and radix is None:
        return None
    if digits.startswith("0x") and radix in (None, 16):
        radix, digits = 16, digits[2:]
    if radix in (None, 10):
        return parse_decimal(source)
    if not digits.isalnum() or radix is None or not 2 <= radix <= 36:
        return None
    try:
        return sign * int(digits, radix)
    except ValueError:
        return None


def _cidr_match(address: Scalar, *blocks: Scalar) -> Scalar:
    if not isinstance(address, str) or None in blocks:
        return None
    parsed = _address(address)
    if parsed is None:
        return False
    return any(_in_block(parsed, block) for block in blocks if isinstance(block, str))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _in_block(address: ipaddress.IPv4Address | ipaddress.IPv6Address, block: str) -> bool:
    network = parse_block(block)
    return network is not None and network.version == address.version and address in network


def parse_block(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Read `10.0.0.0/8`; bits after the prefix are ignored. None where it is no block."""
    try:
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


FUNCTIONS: dict[str, Function] = {
    "add": Function(call=add, parameters=(NUMBER, NUMBER), returns=NUMBER),
    "between": Function(
        call=_between,
        parameters=(STRING, STRING, STRING, BOOLEAN),
        optional=1,
        returns=STRING,
        insensitive=_between_insensitive,
    ),
    "cidrMatch": Function(
        call=_cidr_match, parameters=(STRING, STRING), variadic=True, returns=BOOLEAN
    ),
    "concat": Function(call=_concat, parameters=(ANY,), variadic=True, returns=STRING),
    "divide": Function(call=divide, parameters=(NUMBER, NUMBER), returns=NUMBER),
    "endsWith": Function(
        call=_ends_with,
        parameters=(STRING, STRING),
        returns=BOOLEAN,
        insensitive=_folded(_ends_with),
    ),
    "indexOf": Function(
        call=_index_of,
        parameters=(STRING, STRING, NUMBER),
        optional=1,
        returns=NUMBER,
        insensitive=_folded(_index_of),
    ),
    "length": Function(call=_length, parameters=(STRING,), returns=NUMBER),
    "modulo": Function(call=modulo, parameters=(NUMBER, NUMBER), returns=NUMBER),
    "multiply": Function(call=multiply, parameters=(NUMBER, NUMBER), returns=NUMBER),
    "number": Function(call=_number, parameters=(STRING, NUMBER), optional=1, returns=NUMBER),
    "startsWith": Function(
        call=_starts_with,
        parameters=(STRING, STRING),
        returns=BOOLEAN,
        insensitive=_folded(_starts_with),
    ),
    "string": Function(call=_string, parameters=(ANY,), returns=STRING),
    "stringContains": Function(
        call=_contains,
        parameters=(STRING, STRING),
        returns=BOOLEAN,
        insensitive=_folded(_contains),
    ),
    "substring": Function(
        call=_substring, parameters=(STRING, NUMBER, NUMBER), optional=1, returns=STRING
    ),
    "subtract": Function(call=subtract, parameters=(NUMBER, NUMBER), returns=NUMBER),
}

OPERATORS: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": modulo,
}
