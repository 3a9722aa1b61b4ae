"""What secrets look like: rules with a kind and a pattern, for RE2, whose time is linear in the text.

The secret is the group named `secret`, or else the whole match. Patterns are for UTF-8 bytes. A rule
with a group `name` announces its secret by it: that name is looked at before anything is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sensor.alerts.redaction.names import NAME

# What stands where a long argument was shortened: a value does not end there.
_ELIDED: Final = r"\[… \d+ bytes …\]"
_VALUE: Final = rf"(?:{_ELIDED}|[^\s\"'&;|])+"
_IN_HEADER: Final = r"[^\"'\r\n]+"
# The rest of one command of a shell's line, before what is looked for.
_COMMAND: Final = r"\s(?:[^;|&\n]*\s)?"


@dataclass(frozen=True, slots=True)
class RedactionRule:
    """A kind of secret; `kind` shows in `sensor.redacted.kinds`."""

    kind: str
    pattern: str


ANNOUNCED: Final = "announced"  # the kind is what the name beside the secret says


def _assignments() -> tuple[RedactionRule, ...]:
    """`name=value`, `name: value` and `"name": "value"`; the kind is the name's."""
    name = rf"(?P<name>{NAME})"
    return tuple(
        RedactionRule(ANNOUNCED, f"(?i){pattern}")
        for pattern in (
            # A whole word that a shell would have to quote: blanks belong to the value.
            rf"'-{{0,2}}{name}=(?P<secret>[^']+)'",
            rf"{name}[\"']?(?:=|\s+=\s+|\s*:\s*)\"(?P<secret>[^\s\"][^\"]*)",
            rf"{name}[\"']?(?:=|\s+=\s+|\s*:\s*)'(?P<secret>[^\s'][^']*)",
            rf"{name}(?:=|\s+=\s+|:\s+)(?P<secret>{_VALUE})",
        )
    )


def _options() -> tuple[RedactionRule, ...]:
    """`--password value` in a command line."""
    option = rf"(?:^|[\s\"'])--?(?P<name>{NAME})\s+"
    return tuple(
        RedactionRule(ANNOUNCED, f"(?i){option}{value}")
        for value in (
            r"\"(?P<secret>[^\"]+)",
            r"'(?P<secret>[^']+)",
            rf"(?P<secret>(?:{_ELIDED}|[^\s\"'&;|-])(?:{_ELIDED}|[^\s\"'&;|])*)",
        )
    )


RULES: Final = (
    *_assignments(),
    *_options(),
    RedactionRule(
        "private_key",
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
        r"(?P<secret>.+?)(?:-----END [A-Z0-9 ]*PRIVATE KEY|$)",
    ),
    RedactionRule(
        "aws_access_key_id", r"\b(?P<secret>(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})\b"
    ),
    RedactionRule(
        "aws_secret_access_key",
        r"(?i)secret_?access_?key[\"']?[\s:=]+[\"']?(?P<secret>[A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)",
    ),
    RedactionRule(
        "authorization",
        r"(?i)\bauthorization[\"']?\s*[:=]\s*[\"']?"
        rf"(?:(?:basic|bearer|digest|token|negotiate|apikey|aws4-hmac-sha256)\s+)?(?P<secret>{_IN_HEADER})",
    ),
    RedactionRule(
        "authorization", r"(?i)\b(?:bearer|basic)\s+(?P<secret>[A-Za-z0-9+/._~=-]{16,})"
    ),
    RedactionRule("cookie", rf"(?i)\b(?:set-)?cookie:\s*(?P<secret>{_IN_HEADER})"),
    RedactionRule(
        "header", rf"(?i)\bx-[a-z0-9-]*(?:key|token|secret|auth)[a-z0-9-]*:\s*(?P<secret>{_IN_HEADER})"
    ),
    RedactionRule("url_password", r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:\"'?#]*:(?P<secret>[^\s/\"']+)@"),
    RedactionRule("url_password", r"[A-Za-z][A-Za-z0-9+.-]*://(?P<secret>[A-Za-z0-9_.~-]{20,})@"),
    RedactionRule("url_signature", r"[?&](?:sig|code)=(?P<secret>[^&\s\"']{16,})"),
    RedactionRule("jwt", r"\b(?P<secret>eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"),
    RedactionRule(
        "token",
        r"\b(?P<secret>"
        r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{22,}|gl(?:pat|ptt|rt)-[\w-]{18,}"
        r"|xox[abeprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}|AIza[\w-]{35}|ya29\.[\w-]{20,}"
        r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{30,}"
        r"|pypi-[\w-]{40,}|SG\.[\w-]{16,}\.[\w-]{16,}|hv[sb]\.[\w-]{20,}|dop_v1_[a-f0-9]{60,}"
        r"|AGE-SECRET-KEY-1[A-Z0-9]{40,}|dckr_pat_[\w-]{20,}"
        r")",
    ),
    RedactionRule("webhook", r"hooks\.slack\.com/services/(?P<secret>[A-Za-z0-9_/]+)"),
    RedactionRule("password_hash", r"(?P<secret>\$(?:1|2[aby]|5|6|y|argon2id?)\$[./A-Za-z0-9$=,]{10,})"),
    RedactionRule("password", r"(?:^|[\s\"'=])pass:(?P<secret>[^\s\"']+)"),
    # Options of one letter mean a password only with their own programs.
    RedactionRule("password", rf"\b(?:mysql|mariadb)[a-z-]*{_COMMAND}-p(?P<secret>[^\s\"';|&]+)"),
    RedactionRule("password", r"\bsshpass\s+-p\s*[\"']?(?P<secret>[^\s\"']+)"),
    RedactionRule("password", rf"\bredis-cli{_COMMAND}-a\s+[\"']?(?P<secret>[^\s\"']+)"),
    RedactionRule("password", rf"\b(?:docker|podman)\s+login{_COMMAND}-p\s+[\"']?(?P<secret>[^\s\"']+)"),
    RedactionRule(
        "password",
        rf"\bcurl{_COMMAND}(?:-u|-U|--user|--proxy-user)[\s=]*[\"']?[^\s:\"']*:(?P<secret>[^\s\"']+)",
    ),
)  # fmt: skip
