"""What can be set: every key with its type and its default, as frozen structs."""

from __future__ import annotations

import mmap
from typing import Annotated, Any, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(gt=0)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping of the file: a key it does not know is an error."""


class Kernel(Section, frozen=True):
    """The program: what it sends, and the memory it may have."""

    capture: Literal["matching", "containers", "all"] = "matching"
    failed_execs: bool = False
    ring_bytes: Positive = 4 << 20
    processes_max: Positive = 16384
    proc_root: str = "/proc"

    def __post_init__(self) -> None:
        if self.ring_bytes % mmap.PAGESIZE or self.ring_bytes & (self.ring_bytes - 1):
            raise ValueError(f"ring_bytes: not a power of two from {mmap.PAGESIZE} on")


class Containers(Section, frozen=True):
    """Where metadata comes from. `sockets`: null looks for them, an empty list uses none."""

    sockets: list[str] | None = None
    kubernetes: bool | None = None
    cluster_name: str | None = None
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 250


class RuleLimit(Section, frozen=True):
    """One rule's limit, by its id; null leaves what holds for all."""

    rule: str
    max_alerts: NotNegative | None = None
    interval_s: Seconds | None = None
    reserve: NotNegative | None = None


class Alerts(Section, frozen=True):
    """What becomes of matches.

    `limit`: rules have an interval and a maximum. `max_alerts` and `interval_s` set them for all, null
    leaves them to each rule; `reserve`: how many more, of containers that have sent little; `limits` set
    those of single rules. `collapse_window_s`: the repetitions of one action within this time are
    counted into its first alert; 0 sends each. `exceptions`: files, or folders of them;
    `exceptions_state`: where it is kept what each hid.
    """

    limit: bool = True
    max_alerts: NotNegative | None = None
    interval_s: Seconds | None = None
    reserve: NotNegative | None = None
    limits: list[RuleLimit] = []
    collapse_window_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 60
    exceptions: list[str] = []
    exceptions_state: str | None = None


class Metrics(Section, frozen=True):
    """Where `/metrics` and `/healthz/*` are served, as HOST:PORT; null serves nothing."""

    listen: str | None = None

    def __post_init__(self) -> None:
        host, _, port = (self.listen or "localhost:0").rpartition(":")
        if not (host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise ValueError(f"listen: {self.listen!r} is not HOST:PORT")


class Spool(Section, frozen=True):
    """Where alerts wait for sinks that are down; null keeps them in memory only.

    The directory belongs to the sensor's user. Beyond `max_bytes` or `max_age_s` the oldest of the
    least severe go, and that is said.
    """

    directory: str | None = None
    max_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 256 << 20
    max_age_s: Annotated[float, msgspec.Meta(ge=60)] = 7 * 86_400.0


class Store(Section, frozen=True):
    """Where alerts are kept for `sensor alerts`, `sensor triage` and `sensor tune`; null keeps none.

    The file's folder belongs to the sensor's user. Beyond `max_bytes` the oldest of the least severe
    go, and what is older than `max_age_s`.
    """

    path: str | None = None
    max_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 256 << 20
    max_age_s: Annotated[float, msgspec.Meta(ge=60)] = 30 * 86_400.0


class RedactionRule(Section, frozen=True):
    """A kind of secret of your own. `pattern` is for RE2; its group `secret`, or all of it, is cut."""

    kind: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class Redaction(Section, frozen=True):
    """Secrets are cut from what leaves for sinks, but not from the local store and the spool.

    `without`: kinds that are not looked for. `keep`: values that are no secrets.
    """

    enabled: bool = True
    rules: list[RedactionRule] = []
    without: list[str] = []
    keep: list[str] = []


class Protect(Section, frozen=True):
    """Containers that no response touches.

    `names` are patterns of the container's or the pod's name, `labels` are `key` or `key=value`.
    """

    names: list[str] = []
    labels: list[str] = []
    namespaces: list[str] = msgspec.field(default_factory=lambda: ["kube-system"])


class Automatic(Section, frozen=True):
    """Actions without a person. `rules`: a rule's id and its action."""

    rules: dict[str, Literal["pause", "disconnect", "stop", "kill"]] = {}
    dry_run: bool = True
    max_per_hour: Positive = 3


class Respond(Section, frozen=True):
    """Isolating containers: what is left alone, where it is recorded, and what happens by itself."""

    audit: str = "/var/lib/sensor/responses.ndjson"
    protect: Protect = Protect()
    automatic: Automatic = Automatic()


class Config(Section, frozen=True):
    """Everything that can be set."""

    rules: list[str] = []
    builtin_rules: bool = True
    strict: bool = False
    user: str = "nobody"
    keep_privileges: bool = False
    output: Literal["json", "text"] | None = None
    canary_interval_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60
    heartbeat_interval_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60
    kernel: Kernel = Kernel()
    containers: Containers = Containers()
    alerts: Alerts = Alerts()
    metrics: Metrics = Metrics()
    stdout: bool = True
    sinks: list[dict[str, Any]] = []
    spool: Spool = Spool()
    store: Store = Store()
    redaction: Redaction = Redaction()
    respond: Respond = Respond()
