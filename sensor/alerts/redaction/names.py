"""Names that announce a secret, and values that are none: single words in, yes or no out.

A name such as `aws_access_key_id` is what a search is for, and stays; the value beside it goes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

CUT: Final = "[redacted]"

# As part of a pattern: names are looked at again, one by one, by `kind_of_name`.
KEYWORDS: Final = (
    r"passw(?:or)?d|passphrase|passwort|pass|pwd|secret|token|credentials?|signature"
    r"|(?:api|access|account|private|encryption|signing|master|auth|shared|storage|license)[_.-]?key"
)
NAME: Final = rf"[A-Za-z0-9_.-]*(?:{KEYWORDS})[A-Za-z0-9_.-]*"

_KEYWORD = re.compile(KEYWORDS, re.IGNORECASE)
KINDS: Final = frozenset({"password", "token", "key", "secret", "credential", "signature"})
_KINDS: Final = (("pass", "password"), ("pwd", "password"), ("token", "token"), ("key", "key"))
# Names that end so say where a secret is or what it is like, not what it is.
_ABOUT = re.compile(
    r"(?:file|path|dir|directory|folder|name|id|ids|url|uri|type|size|count|length|len|min|max|ttl"
    r"|policy|store|stdin|env|arn|version|age|timeout|endpoint|host|port|enabled|disabled|required"
    r"|provider|helper|manager|prompt|hint|field|fields|format|mode|scope|expir[a-z]*|regex|pattern)",
    re.IGNORECASE,
)
_PASS = re.compile(r"(?:^|[_.-]|key|store|db|user|root|admin|my|pg)pass$", re.IGNORECASE)
_NAME_MAX: Final = 128

_TRIVIAL: Final = frozenset(
    {
        "true", "false", "yes", "no", "none", "null", "nil", "on", "off", "0", "1",
        "required", "optional", "prompt", "ask",
    }
)  # fmt: skip
# Names of what is searched for, as values: `--regexp-secret=aws_access_key_id` hides nothing.
NEEDLES: Final = frozenset(
    {
        "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "accesskeyid",
        "secretaccesskey", "sessiontoken", "aws_security_token", "aws_access_key", "aws_secret_key",
    }
)  # fmt: skip
_REFERENCE = re.compile(
    r"\$[A-Za-z_][A-Za-z0-9_]*|\$\{[^{}]*\}|\$\(.*|%[A-Za-z_]+%|\{\{.*\}\}|<[^<>]*>"
)
_SOMETHING = re.compile(r"[^\W_]")
_PATH = re.compile(r"[~.]{0,2}/[\w./-]+")
_VALUE_LOOKED_AT: Final = 512


def kind_of_name(name: str) -> str | None:
    """The kind of secret that a name announces, such as `password`; None for any other name."""
    return _kind(name[-_NAME_MAX:])


@lru_cache(maxsize=512)  # options, variables and labels are the same again and again
def _kind(name: str) -> str | None:
    found = None
    for found in _KEYWORD.finditer(name):  # noqa: B007 - the last one counts
        pass
    if found is None:
        return None
    keyword = found[0].lower()
    rest = name[found.end() :]
    if keyword == "pass" and (rest or not _PASS.search(name)):
        return None
    if _ABOUT.fullmatch(rest.strip("_.-")) or _ends_about(rest):
        return None
    return next((kind for part, kind in _KINDS if part in keyword), keyword.rstrip("s"))


def is_secret(value: str, name: str, keep: frozenset[str]) -> bool:
    """Whether the value beside such a name may be a secret: no reference, no word, no pattern."""
    head = value[:_VALUE_LOOKED_AT]
    if not _SOMETHING.search(head):
        return False
    folded = head.casefold()
    if value == CUT or folded in _TRIVIAL or folded in NEEDLES or value in keep:
        return False
    if "credential" in name.lower() and _PATH.fullmatch(head):
        return False
    return not _REFERENCE.fullmatch(head)


def _ends_about(rest: str) -> bool:
    """Whether the last of the words behind the keyword is one about it: `_file`, `-cache-dir`."""
    last = re.split(r"[_.-]", rest)[-1]
    return bool(last) and bool(_ABOUT.fullmatch(last))
