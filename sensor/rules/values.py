"""Single values: how they turn into text, and how two of them compare.

In: values of a JSON document or literals of a query. Out: text, booleans, or None where a comparison has
no answer because a side is missing. Nothing here raises, whatever the document holds.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from sensor.rules.patterns import fold

if TYPE_CHECKING:
    from collections.abc import Callable

    from sensor.rules.ast import Scalar

# An integer of a document may have thousands of digits, and Python refuses to print such.
_LARGEST = 2**64


def text_of(value: Any) -> str | None:
    """Give the text a keyword field would hold for a JSON value; None for what has none."""
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return str(value) if -_LARGEST < value < _LARGEST else None
    if isinstance(value, float):
        return repr(value)
    return None


def is_number(value: Any) -> bool:
    """Tell numbers from booleans, which Python counts among them."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(left: Scalar, right: Scalar) -> bool | None:
    """Compare as Elasticsearch does; values of different types compare by their text."""
    if left is None or right is None:
        return None
    if is_number(left) and is_number(right):
        return left == right
    return text_of(left) == text_of(right)


def equal_insensitive(left: Scalar, right: Scalar) -> bool | None:
    """Compare with ASCII case folded, for `in~`."""
    result = equal(left, right)
    if result is False and isinstance(left, str) and isinstance(right, str):
        return fold(left) == fold(right)
    return result


_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def order(symbol: str) -> Callable[[Scalar, Scalar], bool | None]:
    """Make `<`, `<=`, `>` or `>=`. Text sorts by code point; text beside a number is read as one."""
    compare = _ORDERS[symbol]

    def ordered(left: Scalar, right: Scalar) -> bool | None:
        if isinstance(left, str) and isinstance(right, str):
            return compare(left, right)
        left, right = as_number(left), as_number(right)
        if left is None or right is None:
            return None
        return compare(left, right)

    return ordered


def as_number(value: Scalar) -> int | float | None:
    """Read a number, or a string that is one as a numeric mapping would; otherwise None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return parse_decimal(value)
    return value


def parse_decimal(text: str) -> int | float | None:
    """Read `12`, `-1.5` or `1e3`, and nothing that only Python takes for a number."""
    if not text.isascii() or len(text) > 400 or "_" in text or text.strip() != text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0 else None
