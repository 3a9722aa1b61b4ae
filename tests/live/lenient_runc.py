#!/usr/bin/env python3
"""A container runtime for sandboxes: runc, asked for nothing that root itself may not do here.

Without CAP_SYS_RESOURCE root can neither grant it nor raise a hard limit, and runc gives up over both.
So this takes them out of the container's (create, run) or the new process's (exec) description, then
becomes runc.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

MISSING = "CAP_SYS_RESOURCE"


def without_missing(process: dict[str, Any]) -> None:
    process.pop("rlimits", None)
    for names in (process.get("capabilities") or {}).values():
        if MISSING in names:
            names.remove(MISSING)


def option(arguments: list[str], *names: str, default: str = "") -> str:
    for name, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if name in names:
            return following
        key, equals, text = name.partition("=")
        if equals and key in names:
            return text
    return default


def main(arguments: list[str]) -> None:
    if "create" in arguments or "run" in arguments:
        path = Path(option(arguments, "--bundle", "-b", default="."), "config.json")
        description = json.loads(path.read_text())
        without_missing(description["process"])
        path.write_text(json.dumps(description))
    elif "exec" in arguments:
        path = Path(option(arguments, "--process", "-p"))
        process = json.loads(path.read_text())
        without_missing(process)
        path.write_text(json.dumps(process))
    os.execvp("runc", ["runc", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
