"""The child of `load_rules_in_child`: reads and parses rule files, and is gone with its parsers.

In on stdin: JSON, `{"paths": [...], "builtin": true}`. Out on stdout: a pickled list of `ReadRule`
and `RuleError`, for the parent process alone.
"""

from __future__ import annotations

import json
import pickle
import sys

from sensor.rules.read import read_rules


def main() -> None:
    request = json.loads(sys.stdin.buffer.read())
    result = read_rules(request["paths"], builtin=request["builtin"])
    sys.stdout.buffer.write(pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main()
