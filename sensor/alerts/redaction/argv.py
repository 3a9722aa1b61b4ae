"""An argv without its secrets: here it is known where one argument ends and the next begins.

grep -r aws_access_key_id /srv          nothing to cut: a name, not a value
deploy --password 'my own' --token=x    the argument behind the option, and what follows the `=`
mysql -psecret, curl -u me:secret       options of one letter, of programs that take passwords so
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from sensor.alerts.redaction.names import CUT, is_secret, kind_of_name
from sensor.alerts.redaction.text import TextRedactor

# How an option of one program gives a password: behind it, as the second half of user:password, or as
# NAME=VALUE, without which it names a file.
_How = Literal["next", "attached", "pair", "cookie"]

_OPTION = re.compile(r"(-{0,2})([A-Za-z][A-Za-z0-9_.-]{0,127})(?:=(.*))?", re.DOTALL)
_MYSQL: Final[dict[str, _How]] = {"-p": "attached"}
_NEXT_P: Final[dict[str, _How]] = {"-p": "next"}
_LDAP: Final[dict[str, _How]] = {"-w": "next"}
_TOOLS: Final[dict[str, dict[str, _How]]] = {
    "curl": {
        "-u": "pair",
        "--user": "pair",
        "-U": "pair",
        "--proxy-user": "pair",
        "-b": "cookie",
        "--cookie": "cookie",
    },
    "sshpass": {"-p": "next"},
    "redis-cli": {"-a": "next"},
    "skopeo": {"--creds": "pair", "--src-creds": "pair", "--dest-creds": "pair"},
    "smbclient": {"-U": "pair"},
    "zip": {"-P": "next"},
    "unzip": {"-P": "next"},
    "openssl": {"-k": "next", "-K": "next"},
    **dict.fromkeys(
        ("mysql", "mysqldump", "mysqladmin", "mysqlimport", "mariadb", "mariadb-dump"), _MYSQL
    ),
    **dict.fromkeys(("mongo", "mongosh", "mongodump", "mongorestore"), _NEXT_P),
    **dict.fromkeys(("ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami"), _LDAP),
}
_LOGIN: Final = frozenset({"docker", "podman", "nerdctl", "buildah", "helm"})
_PAIR = re.compile(r"([^:%]*[:%])(.+)", re.DOTALL)


def redact_args(args: Sequence[str], redactor: TextRedactor, found: Counter[str]) -> list[str]:
    """The arguments without their secrets, which are counted by kind."""
    result = list(args)
    whole = set()
    for index, kind, start in _announced(args, redactor):
        if index in whole or not redactor.wants(kind) or args[index][start:] == CUT:
            continue
        whole.add(index)
        result[index] = args[index][:start] + CUT
        found[kind] += 1
    for index, argument in enumerate(args):
        if index not in whole:
            result[index] = redactor.text(argument, found)
    return result


def _announced(args: Sequence[str], redactor: TextRedactor) -> Iterator[tuple[int, str, int]]:
    """Arguments of which everything from an offset on is a secret, with its kind."""
    options: dict[str, _How] = {}
    login = False
    for index, argument in enumerate(args):
        following = args[index + 1] if index + 1 < len(args) else ""
        if not argument.startswith("-"):
            tool = argument.rpartition("/")[2]
            options = _TOOLS.get(tool, options)
            login = login or tool in _LOGIN
            if login and argument == "login":
                options = _NEXT_P
        match = _OPTION.fullmatch(argument)
        if match is not None and (kind := kind_of_name(match[2])) is not None:
            if match[3] is not None:
                if is_secret(match[3], match[2], redactor.keep):
                    yield index, kind, match.start(3)
            elif (
                (match[1] or _is_setting(args, index))
                and not following.startswith("-")
                and is_secret(following, match[2], redactor.keep)
            ):
                yield index + 1, kind, 0
        elif options:
            yield from _by_tool(options, index, argument, following)


def _is_setting(args: Sequence[str], index: int) -> bool:
    """Whether this is `configure set NAME VALUE`."""
    return index >= 2 and list(args[index - 2 : index]) == ["configure", "set"]


def _by_tool(
    options: dict[str, _How], index: int, argument: str, following: str
) -> Iterator[tuple[int, str, int]]:
    how = options.get(argument)
    if how == "next":
        yield index + 1, "password", 0
    elif how == "cookie":
        if "=" in following:
            yield index + 1, "cookie", 0
    elif how == "pair":
        if match := _PAIR.fullmatch(following):
            yield index + 1, "password", match.start(2)
    elif how is None and len(argument) > 2 and argument[:2] in options:
        # The value is written right behind the letter.
        short = options[argument[:2]]
        if argument.startswith("--"):
            return
        if short != "pair":
            yield index, "password", 2
        elif match := _PAIR.fullmatch(argument[2:]):
            yield index, "password", 2 + match.start(2)
