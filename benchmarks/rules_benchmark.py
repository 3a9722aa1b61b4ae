"""How many execs a second the rules take, and how long they take to load.

    python benchmarks/rules_benchmark.py [--events 10000] [--repeat 5]

Evaluates the rule this project began with, the 32 single-event process rules of the shared folder, and
all that is active there, over synthetic execs of which 0.4 % are a hit; with the index and, side by side
in the same run, with a plain loop over the same compiled rules. Where the `eql` package is installed, its
engine runs over the same events with their arrays joined to strings, for the record.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from sensor.rules import Query, compile_query
from sensor.rules.index import RuleIndex
from sensor.rules.schema import DEFAULT_SCHEMA

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data" / "elastic-rules"
SEED = ROOT / "sensor" / "rules" / "pack" / "aws-credentials-searched-in-container.yml"

Document = dict[str, Any]

# What containers run all day, by weight: shells and their helpers, health checks, interpreters.
COMMANDS: list[tuple[int, list[str]]] = [
    (20, ["/bin/sh", "-c", "{word} --check {path} > /dev/null 2>&1"]),
    (8, ["bash", "-c", "cd {path} && ./{word}.sh"]),
    (6, ["sh", "{path}/{word}.sh"]),
    (8, ["grep", "-q", "{word}", "{path}/{word}.conf"]),
    (3, ["egrep", "-r", "{word}", "{path}"]),
    (6, ["cat", "{path}/{word}.pid"]),
    (5, ["ls", "-la", "{path}"]),
    (4, ["sed", "-i", "s/{word}/{word}/", "{path}/{word}.ini"]),
    (4, ["awk", "{{print $1}}", "{path}/{word}.log"]),
    (4, ["find", "{path}", "-name", "*.{word}", "-mtime", "+7"]),
    (4, ["curl", "-fsS", "http://127.0.0.1:8080/{word}"]),
    (2, ["wget", "-q", "--spider", "http://{word}.svc:9090/healthz"]),
    (5, ["python3", "{path}/{word}.py", "--config", "{path}/{word}.yaml", "--verbose"]),
    (3, ["node", "{path}/server.js", "--port", "3000"]),
    (3, ["pg_isready", "-U", "{word}"]),
    (3, ["redis-cli", "ping"]),
    (3, ["date", "+%s"]),
    (3, ["sleep", "5"]),
    (2, ["ps", "aux"]),
    (2, ["hostname", "-f"]),
    (2, ["chmod", "0644", "{path}/{word}"]),
    (2, ["java", "-Xmx512m", "-jar", "{path}/{word}.jar", "--spring.profiles.active={word}"]),
]
HIT = ["grep", "-r", "aws_secret_access_key", "{path}"]
WORDS = [
    "alpha",
    "health",
    "ready",
    "cache",
    "queue",
    "worker",
    "index",
    "search",
    "metrics",
    "report",
]
PATHS = ["/srv/app", "/var/lib/data", "/opt/service/current", "/home/app", "/etc/service", "/data"]


def documents(count: int, hits: float = 0.004) -> list[Document]:
    """Make execs, always the same ones. One in ten is the host's, the others are containers'."""
    choose = random.Random(7)
    weights = [weight for weight, _ in COMMANDS]
    at = set(choose.sample(range(count), round(count * hits)))
    made = []
    for number in range(count):
        command = HIT if number in at else choose.choices(COMMANDS, weights)[0][1]
        args = [
            part.format(word=choose.choice(WORDS), path=choose.choice(PATHS)) for part in command
        ]
        made.append(document(number, args, in_container=number in at or choose.random() < 0.9))
    return made


def document(number: int, args: list[str], *, in_container: bool) -> Document:
    """Make one exec as `ecs.py` writes it."""
    name = args[0].rpartition("/")[2]
    parent = process(number, ["bash"], "/bin/bash")
    made: Document = {
        "@timestamp": "2026-01-01T12:00:00.000000Z",
        "ecs": {"version": "8.10.0"},
        "data_stream": {"type": "logs", "dataset": "cloud_defend.process", "namespace": "default"},
        "event": {
            "id": f"{number:032x}",
            "kind": "event",
            "category": ["process"],
            "type": ["start"],
            "action": "exec",
            "module": "cloud_defend",
            "dataset": "cloud_defend.process",
            "outcome": "success",
            "sequence": number,
        },
        "host": {"hostname": "node-1", "name": "node-1", "os": {"type": "linux", "kernel": "6.1"}},
        "user": {"id": "0", "name": "root"},
        "group": {"id": "0"},
        "process": {
            **process(number, args, f"/usr/bin/{name}"),
            "name": [name, "busybox"] if number % 5 == 0 else name,
            "parent": {**parent, "same_as_process": False},
            "session_leader": {**parent, "same_as_process": False},
            "group_leader": {**parent, "same_as_process": False},
            "entry_leader": {
                **parent,
                "same_as_process": False,
                "entry_meta": {"type": "container"},
            },
        },
        "sensor": {"filename": f"/usr/bin/{name}", "args_bytes": 40, "args_truncated": False},
        "container": {"identity": {"state": "container" if in_container else "host"}},
    }
    if in_container:
        made["container"] |= {
            "id": f"{number % 50:064x}",
            "name": "web",
            "runtime": "docker",
            "image": {"name": "docker.io/library/nginx", "tag": ["1.27"]},
            "security_context": {"privileged": False},
        }
    return made


def process(number: int, args: list[str], executable: str) -> Document:
    """Make the part that every process has."""
    return {
        "pid": number,
        "entity_id": f"{number:032x}",
        "name": args[0],
        "executable": executable,
        "working_directory": "/",
        "interactive": False,
        "start": "2026-01-01T12:00:00.000000Z",
        "args": args,
        "args_count": len(args),
        "command_line": " ".join(args),
        "user": {"id": "0"},
        "group": {"id": "0"},
    }


def shared_queries() -> list[str]:
    """Read the texts of the shared folder's EQL rules."""
    files = [tomllib.loads(path.read_text())["rule"] for path in sorted(SHARED.glob("*.toml"))]
    return [rule["query"] for rule in files if rule["language"] == "eql"]


def with_index(queries: Sequence[Query]) -> Callable[[Iterable[Document]], int]:
    """Evaluate as the sensor does."""
    candidates = RuleIndex(queries).candidates
    evaluate = evaluators(queries)

    def run(events: Iterable[Document]) -> int:
        return sum(evaluate[position](event) for event in events for position in candidates(event))

    return run


def plain_loop(queries: Sequence[Query]) -> Callable[[Iterable[Document]], int]:
    """Evaluate each rule for each event."""
    evaluate = evaluators(queries)
    return lambda events: sum(one(event) for event in events for one in evaluate)


def evaluators(queries: Sequence[Query]) -> list[Callable[[Document], int]]:
    """Make one function a rule that gives the number of matches."""
    made: list[Callable[[Document], int]] = []
    for query in queries:
        if query.is_sequence:
            feed = query.new_state().feed
            made.append(lambda event, feed=feed: len(feed(event, event["process"]["pid"] * 10**7)))
        else:
            made.append(query.matches)
    return made


def eql_package(texts: Sequence[str]) -> Callable[[Iterable[Any]], int] | None:
    """Evaluate with the `eql` package, if it is there."""
    try:
        import eql  # noqa: PLC0415
        import eql.schema  # noqa: PLC0415
    except ImportError:
        return None
    found = [0]
    engine = eql.PythonEngine()
    with eql.parser.elasticsearch_syntax, eql.parser.ignore_missing_functions:
        for text in texts:
            # It has no runs, for one.
            with contextlib.suppress(eql.EqlError):
                engine.add_query(eql.parse_query(text))
    engine.add_output_hook(lambda _result: found.__setitem__(0, found[0] + 1))

    def run(events: Iterable[Any]) -> int:
        found[0] = 0
        engine.stream_events(events, finalize=False)
        return found[0]

    return run


def flat_events(events: Iterable[Document]) -> list[Any]:
    """Make the package's events, with arrays joined to strings: it raises on most arrays."""
    import eql  # noqa: PLC0415

    def flat(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: flat(inner) for key, inner in value.items()}
        return " ".join(value) if isinstance(value, list) else value

    return [eql.Event("process", number, flat(event)) for number, event in enumerate(events)]


def measure(
    run: Callable[[Iterable[Any]], int], events: list[Any], repeat: int
) -> tuple[float, int]:
    """Give events a second, the best of several runs, and the matches of one.

    The best run is the one that was least disturbed by what else the machine did.
    """
    run(events[:100])
    rates = []
    matches = 0
    for _ in range(repeat):
        start = time.perf_counter()
        matches = run(events)
        rates.append(len(events) / (time.perf_counter() - start))
    return max(rates), matches


def main() -> None:
    """Print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=10_000)
    arguments.add_argument("--repeat", type=int, default=7)
    options = arguments.parse_args()
    events = documents(options.events)
    seed = yaml.safe_load(SEED.read_text())["query"]
    sets = {"the seed rule": [seed]}
    if SHARED.is_dir():
        compiled = [(text, compile_query(text)) for text in shared_queries()]
        active = [(text, query) for text, query in compiled if query.inactive_reason is None]
        single = [text for text, query in active if query.categories == {"process"}]
        sets["the 32 process rules"] = [
            text for text in single if not compile_query(text).is_sequence
        ]
        sets["all that is active"] = [text for text, _ in active]
    else:
        print(f"no rules in {SHARED}: only the seed rule is measured")
    print(
        f"{'':24}{'rules':>6}{'index':>12}{'plain loop':>12}{'eql package':>12}  events/s, matches"
    )
    for name, texts in sets.items():
        queries = [compile_query(text) for text in texts]
        fast, found = measure(with_index(queries), events, options.repeat)
        slow, also = measure(plain_loop(queries), events, options.repeat)
        other = eql_package(texts)
        rate = f"{measure(other, flat_events(events), 1)[0]:12,.0f}" if other else f"{'-':>12}"
        print(f"{name:24}{len(texts):6}{fast:12,.0f}{slow:12,.0f}{rate}  {found} {also}")
    texts = list(sets.values())[-1]
    two_hundred = [texts[number % len(texts)] for number in range(200)]
    start = time.perf_counter()
    for text in two_hundred:
        compile_query(text, schema=DEFAULT_SCHEMA)
    print(f"load of 200 rules: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
