"""What naming a container costs: parsing, looking up warm and cold, short containers, memory.

    python benchmarks/containers_benchmark.py [--fuzz 1000000] [--short 500]
        [--socket PATH]… [--image IMAGE] [--no-engines]

Parsing, waiting and memory need no engine. As root Docker, containerd and Podman are started, those that
are installed, or with --socket running ones are asked: each container that runs is looked up by its
engine (cold), and in what is known ahead (warm). Then so many `docker run --rm IMAGE true` are run
through the first Docker socket, as many at once as there are processors, and each is asked for when it
has just started, as an alert asks. All figures of one run belong together.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensor.containers.cgroup import identify
from sensor.containers.container import Container, bounded_labels
from sensor.containers.resolver import Resolver, SourcesConfig, find_sources
from sensor.containers.source import Change, MemorySource
from sensor.containers.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from sensor.containers.source import Source

A, B = "a" * 64, "b" * 64
POD = "121157b5_c67d_4c3e_9052_cb27bbb711fb"
PATHS = {
    "docker": f"/docker/{A}",
    "docker in docker": f"/docker/{A}/docker/{B}",
    "kubernetes": f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD}.slice/cri-containerd-{A}.scope",
    "host service": "/system.slice/ssh.service",
    "4 KiB of names": "/x" * 2048,
}
SEED = 20
IMPORTED = """
import sensor.containers.resolver
def pss():
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
before = pss()
import sensor.containers.{module}
print(pss() - before)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--fuzz", type=int, default=1_000_000)
    parser.add_argument("--socket", action="append", default=[])
    parser.add_argument("--short", type=int, default=500)
    parser.add_argument("--image", default="sensor-test/busybox:1.0")
    parser.add_argument("--no-engines", action="store_true")
    options = parser.parse_args()
    parsing(options.fuzz)
    waiting()
    memory()
    with ExitStack() as stack:
        sockets = options.socket
        if not sockets and not options.no_engines and os.geteuid() == 0:
            sockets = engines(stack)
        sources = find_sources(SourcesConfig(sockets=tuple(sockets)), environ={})
        for source in sources:
            looking_up(source)
        if sockets and options.short:
            path = sockets[0].removeprefix("docker:")
            short_containers(sources[:1], path, options.short, options.image)


def engines(stack: ExitStack) -> list[str]:
    """Engines of our own, with a container each; the first is Docker's."""
    from troubles import containerd_place, docker_place, podman_place  # noqa: PLC0415 - only here

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
    docker, engine = stack.enter_context(docker_place(folder, ["sleep", "1000000"]))
    containerd = stack.enter_context(containerd_place(engine, ["sleep", "1000000"]))
    podman = stack.enter_context(podman_place(engine, ["sleep", "1000000"]))
    return [docker.address, containerd.address, podman.address]


def parsing(lines: int) -> None:
    print("identify, µs a path:")
    for name, path in PATHS.items():
        print(f"  {name:<20} {each(lambda path=path: identify(path), 20_000) / 1e3:8.2f}")
    pieces = [
        *(path for path in PATHS.values() if len(path) < 1000),
        "lxc.payload.",
        "kubepods",
        ":",
        "..",
        "/",
        "\n",
        "\udcff",
        "\x1b",
        A,
        ".scope",
    ]
    choose = random.Random(SEED)
    started = time.perf_counter()
    for _ in range(lines):
        line = "".join(choose.choices(pieces, k=choose.randrange(1, 8)))
        at = choose.randrange(len(line))
        identify(line[:at] + chr(choose.randrange(0x11_0000)) + line[at + choose.randrange(2) :])
    print(f"  {lines:,} fuzzed lines without an exception, {time.perf_counter() - started:.1f} s")


def waiting() -> None:
    """What a source that hangs adds to the others' answers."""
    known = Container(id=A, source="docker", name="web", complete=True)
    medians = {}
    for name, gate in (("undisturbed", None), ("one source hangs", threading.Event())):
        hung = MemorySource("containerd", gate=gate)
        resolver = Resolver([MemorySource("docker", {A: known}), hung])
        resolver.start()
        hung.watching.wait()
        while resolver.get(A).container is None:
            time.sleep(0.001)
        resolver.request(B, lambda _: None)
        medians[name] = each(lambda resolver=resolver: resolver.get(A), 20_000)
        if gate is not None:
            gate.set()
        resolver.stop()
    print("get of a known container, µs:")
    for name, median in medians.items():
        print(f"  {name:<20} {median / 1e3:8.2f}")
    print(f"  ratio                {medians['one source hangs'] / medians['undisturbed']:8.2f}")


def memory() -> None:
    print("memory, KiB of PSS:")
    for module in ("docker", "cri", "kubernetes"):
        done = subprocess.run(
            [sys.executable, "-c", IMPORTED.format(module=module)],
            capture_output=True,
            text=True,
            check=True,
        )
        print(f"  source {module:<13} {int(done.stdout):8,}")
    gc.collect()
    before = pss()
    store = Store(max_containers=10_000, grace_s=60, clock=time.monotonic)
    for number in range(10_000):
        store.put(container(number))
    gc.collect()
    print(f"  1,000 containers     {(pss() - before) // 10:8,}")
    for number in range(10_000, 110_000):
        store.apply("docker", Change(kind="create", containers=(container(number),)))
        store.apply("docker", Change(kind="destroy", container_id=f"{number:064x}"))
    gc.collect()
    print(f"  after 100,000 more   {(pss() - before) // 10:8,}  ({len(store):,} kept)")


def container(number: int) -> Container:
    """A container like those of an orchestrator: no two share a text."""
    unique = uuid.UUID(int=number)
    return Container(
        id=f"{number:064x}",
        source="docker",
        runtime="docker",
        name=f"k8s_app_web-{unique}_shop_0",
        image_name=f"registry.example.org:5000/team/{unique}",
        image_tag="1.2.3",
        image_digest=f"sha256:{number:064x}",
        image_id=f"sha256:{number:064x}",
        labels=bounded_labels(
            {f"app.kubernetes.io/label-{i}": f"value-{unique}" for i in range(10)}
        )[0],
        created="2026-01-01T00:00:00.000Z",
        started="2026-01-01T00:00:01.000Z",
        privileged=False,
        ip=f"10.0.{number % 256}.1",
        command=("sh", "-c", f"exec serve --id {unique}"),
        pid=number,
        mounts=(f"/var/lib/volumes/{unique}:/data:rw",),
        host_mounts=(),
        network_mode="bridge",
        pid_mode="private",
        cap_add=(),
        complete=True,
    )


def looking_up(source: Source) -> None:
    resolver = Resolver([source])
    resolver.start()
    deadline = time.monotonic() + 10
    while not resolver.counters().get(f"{source.name}.watch.seed") and time.monotonic() < deadline:
        time.sleep(0.01)
    ids = [known.id for known in resolver.containers()]
    if not ids:
        resolver.stop()
        print(f"{source.name}: no container runs")
        return
    for container_id in ids:
        resolver.resolve(container_id, timeout_s=10)  # whole, as soon as its engine has been asked
    warm = sorted(timed(lambda i=i: resolver.get(i)) * 1e3 for i in ids * (20_000 // len(ids)))
    resolver.stop()
    cold = sorted(timed(lambda i=i: source.look_up(i)) for i in ids * max(1, 200 // len(ids)))
    print(
        f"{source.name}, a look-up: cold, ms, p50 {quantile(cold, 0.5):.2f}, "
        f"p99 {quantile(cold, 0.99):.2f}; warm, µs, p50 {quantile(warm, 0.5):.1f}, "
        f"p99 {quantile(warm, 0.99):.1f}"
    )


def short_containers(sources: list[Source], socket: str, number: int, image: str) -> None:
    resolver = Resolver(sources, grace_s=3600)
    resolver.start()
    client = sources[0]
    while not resolver.counters().get(f"{client.name}.watch.seed"):
        time.sleep(0.01)
    counts: Counter[str] = Counter()
    at_once: list[float] = []
    names: dict[str, str] = {}
    lock = threading.Lock()

    def run(which: int) -> None:
        docker = docker_client(socket)
        name = f"short-{which}-{uuid.uuid4().hex[:8]}"
        made = docker.containers.create(
            image, ["true"], name=name, auto_remove=True, network_mode="none"
        )
        made.start()
        started = time.perf_counter()
        first = resolver.get(made.id)
        found = resolver.resolve(made.id, timeout_s=0.25)
        took = (time.perf_counter() - started) * 1e3
        with lock:
            names[made.id] = name
            at_once.append(took)
            counts["known at once"] += first.container is not None
            counts["with name and image in 250 ms"] += bool(
                found.container and found.container.name and found.container.image_name
            )
            counts["whole in 250 ms"] += bool(found.container and found.container.complete)
            counts["of another container"] += bool(found.container and found.container.name != name)
        docker.close()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, range(number)))
    resolver.stop()
    known = {i: c.name for c in resolver.containers() if (i := c.id) in names}
    counts["to the right name afterwards"] = sum(names[i] == name for i, name in known.items())
    print(f"{number} short containers:")
    for what, count in counts.items():
        print(f"  {what:<30} {count:6}  {count / number:7.1%}")
    at_once.sort()
    print(f"  ms: p50 {quantile(at_once, 0.5):.2f}, p99 {quantile(at_once, 0.99):.2f}")
    print(f"  {resolver.counters()}")


def docker_client(socket: str) -> Any:
    import docker  # noqa: PLC0415 - only where there is one

    return docker.DockerClient(base_url=f"unix://{socket}", timeout=60)


def each(call: Callable[[], object], times: int) -> float:
    """The median ns of one call, over rounds of 1000."""
    rounds = []
    for _ in range(max(1, times // 1000)):
        started = time.perf_counter_ns()
        for _ in range(1000):
            call()
        rounds.append((time.perf_counter_ns() - started) / 1000)
    return statistics.median(rounds)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def quantile(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]


def pss() -> int:
    """This process's share of memory in KiB."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
