"""A Kubernetes node with its control plane: real programs in a network and a mount of their own.

What it shares with the machine is the kernel, the process ids and the cgroups. Its cgroup, `kubepods`, is
at the root of each hierarchy, as on any node; so a machine that is a node itself is none to test on.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

LIVE = Path(__file__).parents[1] / "live"
sys.path[:0] = [str(LIVE)]

from cgroup_of_its_own import hierarchies  # noqa: E402

T = TypeVar("T")

NODE = "node-1"
ADDRESS = "10.99.0.1"  # the node's
PODS = "10.98.0.0/24"
SERVICES = "10.96.0.0/24"
SERVICE = "10.96.0.1"  # the first of them is the service `kubernetes`
PAUSE = "docker.io/sensor-test/pause:1"
SOCKET = "/run/containerd/containerd.sock"
READY_SECONDS = 120
CAP_SYS_RESOURCE = 24
PR_CAPBSET_READ = 23

CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = "{runtime}"
"""
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}
KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "healthzBindAddress": "127.0.0.1",
    "cgroupDriver": "cgroupfs",
    "enforceNodeAllocatable": [],
    "failSwapOn": False,
    "makeIPTablesUtilChains": False,
    "oomScoreAdj": 0,
    "evictionHard": {"memory.available": "50Mi"},
    "imageGCHighThresholdPercent": 100,
    "containerLogMaxSize": "1Gi",  # a file that the tests read to its end
    "protectKernelDefaults": True,
}


class NodeError(Exception):
    """The node, or something on it, did not come up; the message says what and shows the log's end."""


def cgroups() -> list[Path]:
    """The cgroups of the pods, one in each hierarchy."""
    return [each for root in hierarchies() if (each := root / "kubepods").is_dir()]


def missing() -> str | None:
    """Why no node can run here, or None."""
    if os.geteuid() != 0:
        return "root is needed"
    programs = ("containerd", "ctr", "etcd", "ip", "nsenter", "openssl", "runc", "unshare")
    if absent := [program for program in programs if shutil.which(program) is None]:
        return f"not installed: {', '.join(absent)}"
    if found := cgroups():
        return f"this machine runs pods itself, or a run left its cgroups behind: {found[0]}"
    return None


def runtime() -> str:
    """runc; where root itself may not grant all that `privileged` asks for, one that leaves that out."""
    may = ctypes.CDLL(None).prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE, 0, 0, 0)
    return str(shutil.which("runc")) if may == 1 else str(LIVE / "lenient_runc.py")


def wait_for(find: Callable[[], T | None], what: str, seconds: float = READY_SECONDS) -> T:
    """What `find` finds, asked again until it does: for what nobody tells of. Raises `NodeError`."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > deadline:
            raise NodeError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)
    return found


class Node:
    """One node. `binaries` has Kubernetes' programs, `kubectl` is of any version that they talk to."""

    def __init__(self, binaries: Path, kubectl: str) -> None:
        self._binaries = binaries
        self._kubectl = kubectl
        # Short, because a socket's path may have 107 characters; and the sensor must get in unprivileged.
        self.folder = Path("/var/tmp") / f"sensor-node-{secrets.token_hex(3)}"
        self._view: subprocess.Popen[str] | None = None
        self._namespace = -1
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self._token = secrets.token_hex(16)

    # --- its life -------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o755)
        for name in ("run", "log", "kubelet", "cni", "certificates"):
            (self.folder / name).mkdir()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._certify()
        self._view = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "--propagation", "private"),
                *("setpriv", "--pdeathsig", "KILL"),
                *(Path(__file__).with_name("node-view.sh"), self.folder, ADDRESS, SERVICE),
            ],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._view.stdout is not None
        if self._view.stdout.readline() != "ready\n":
            raise NodeError("its namespaces could not be set up")
        self._namespace = os.open(f"/proc/{self._view.pid}/ns/mnt", os.O_RDONLY)

        store = "http://127.0.0.1:2379"
        self._run(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--logger=zap",
        )
        self._start_control_plane(store)
        config = CONTAINERD.format(
            folder=self.folder, socket=SOCKET, pause=PAUSE, runtime=runtime()
        )
        (self.folder / "containerd.toml").write_text(config)
        (self.folder / "cni/pods.conflist").write_text(json.dumps(NETWORK))
        self._run("containerd", f"--config={self.folder}/containerd.toml")
        self._await("containerd", "ctr", "--address", SOCKET, "version")

    def _start_control_plane(self, store: str) -> None:
        certificates = self.folder / "certificates"
        config = self._client_config()
        (self.folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        self._run(
            "kube-apiserver",
            f"--etcd-servers={store}",
            "--secure-port=443",
            f"--advertise-address={ADDRESS}",
            f"--tls-cert-file={certificates}/server.crt",
            f"--tls-private-key-file={certificates}/server.key",
            f"--service-account-key-file={certificates}/accounts.pub",
            f"--service-account-signing-key-file={certificates}/accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICES}",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
        )
        self._await("kube-apiserver", *self._client(), "get", "--raw", "/readyz")
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={config}",
            f"--service-account-private-key-file={certificates}/accounts.key",
            f"--root-ca-file={certificates}/ca.crt",
            "--leader-elect=false",
        )
        self._run("kube-scheduler", f"--kubeconfig={config}", "--leader-elect=false")

    def join(self) -> None:
        """Start the kubelet, when the images are there; returns when the node is ready."""
        (self.folder / "resolv.conf").write_text("")
        settings = KUBELET | {"resolvConf": f"{self.folder}/resolv.conf"}
        (self.folder / "kubelet.json").write_text(json.dumps(settings))
        self._run(
            "kubelet",
            f"--kubeconfig={self.folder}/kubeconfig",
            f"--config={self.folder}/kubelet.json",
            "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{SOCKET}",
            f"--hostname-override={NODE}",
            f"--node-ip={ADDRESS}",
            # With the short period of `binaries`, pods that end are gone soon.
            "--minimum-container-ttl-duration=0s",
            "--maximum-dead-containers-per-container=0",
        )
        wait_for(self._is_ready, "the node is ready")

    def _is_ready(self) -> bool:
        self._check("kubelet")
        items = self.json("get", "nodes")["items"]
        conditions = [each for item in items for each in item["status"].get("conditions", [])]
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def stop(self) -> None:
        """End all of it and take its traces away; safe to call twice."""
        for name in reversed(self._programs):
            self._end(name)
        # Pods go on without their kubelet. All that is in these cgroups is ours.
        deadline = time.monotonic() + 10
        while (left := self._processes_of_pods()) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        if self._view is not None:
            self._view.kill()
            self._view.wait()
            self._view = None
        if self._namespace >= 0:
            ours = os.fstat(self._namespace).st_ino
            for entry in Path("/proc").iterdir():
                with suppress(OSError):
                    if entry.name.isdigit() and (entry / "ns/mnt").stat().st_ino == ours:
                        os.kill(int(entry.name), signal.SIGKILL)  # the pods' shims
            os.close(self._namespace)
            self._namespace = -1
            for each in cgroups():
                for directory, _, _ in os.walk(each, topdown=False):
                    with suppress(OSError):  # a process in it is not reaped yet
                        Path(directory).rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _processes_of_pods() -> set[int]:
        found: set[int] = set()
        for each in cgroups():
            for path in each.rglob("cgroup.procs"):
                with suppress(OSError):
                    found.update(map(int, path.read_text().split()))
        return found

    # --- what runs on it ------------------------------------------------------------------------------

    def command(self, *command: str | Path) -> list[str]:
        """A command as it is run on the node."""
        assert self._view is not None
        return ["nsenter", "--target", str(self._view.pid), "--net", "--mount", *map(str, command)]

    def kubectl(self, *arguments: str | Path, data: str | None = None) -> str:
        """What kubectl says on standard output. Raises `NodeError` with what it says on the other."""
        done = subprocess.run(
            self.command(*self._client(), *arguments),
            input=data,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NodeError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.kubectl(*arguments, "--output=json"))

    def helm(self, helm: str, *arguments: str | Path) -> str:
        """What helm says. Raises `NodeError` with what it says on standard error."""
        command = self.command(helm, f"--kubeconfig={self.folder}/kubeconfig", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NodeError(f"helm {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout

    def answer(self, *arguments: str) -> str:
        """What kubectl says, whatever its exit code, which tells `no` by 1, too."""
        command = self.command(*self._client(), *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def apply(self, manifest: dict[str, Any]) -> None:
        self.kubectl("apply", "--filename=-", data=json.dumps(manifest))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start kubectl and do not wait for its end."""
        command = self.command(*self._client(), *arguments)
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def load(self, archive: bytes) -> None:
        """Take an image as `docker save` writes it."""
        load = ("ctr", "--address", SOCKET, "--namespace", "k8s.io", "images", "import", "-")
        subprocess.run(self.command(*load), input=archive, capture_output=True, check=True)

    def tag(self, image: str, name: str) -> None:
        tag = ("ctr", "--address", SOCKET, "--namespace", "k8s.io", "images", "tag", image, name)
        subprocess.run(self.command(*tag), capture_output=True, check=True)

    def logs(self, namespace: str, pod: str, container: str) -> list[Path]:
        """The files that hold what a container wrote: one for each start. They go when the pod has gone."""
        return sorted(self.folder.glob(f"log/pods/{namespace}_{pod}_*/{container}/*.log"))

    def _client(self) -> Sequence[str]:
        return (self._kubectl, f"--kubeconfig={self.folder}/kubeconfig")

    def _client_config(self) -> Path:
        cluster = {
            "server": "https://127.0.0.1:443",
            "certificate-authority": f"{self.folder}/certificates/ca.crt",
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        (path := self.folder / "kubeconfig").write_text(json.dumps(config))
        return path

    def _certify(self) -> None:
        """A certificate authority, the API server's certificate, and the key of service accounts' tokens."""
        folder = self.folder / "certificates"

        def openssl(*arguments: str) -> None:
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

        names = f"DNS:kubernetes.default.svc,IP:127.0.0.1,IP:{SERVICE},IP:{ADDRESS}"
        (folder / "names").write_text(f"subjectAltName={names}\n")
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        authority = ("-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test", "-days", "2")
        openssl("req", "-x509", *new_key, *authority)
        request = ("-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=kube-apiserver")
        openssl("req", "-new", *new_key, *request)
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        files = ("-in", "server.csr", "-out", "server.crt", "-extfile", "names")
        openssl("x509", "-req", *signing, *files)
        openssl("genrsa", "-out", "accounts.key", "2048")
        openssl("rsa", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")

    def _run(self, program: str, *arguments: str) -> None:
        own = self._binaries / program
        with (self.folder / f"{program}.log").open("wb") as log:
            self._programs[program] = subprocess.Popen(
                self.command(own if own.exists() else program, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _await(self, program: str, *question: str) -> None:
        """Wait until a question is answered well."""

        def answered() -> bool:
            self._check(program)
            asked = subprocess.run(self.command(*question), capture_output=True, check=False)
            return asked.returncode == 0

        wait_for(answered, f"{program} answers\n{self._tail(program)}")

    def _check(self, program: str) -> None:
        if self._programs[program].poll() is not None:
            raise NodeError(f"{program} ended:\n{self._tail(program)}")

    def _tail(self, program: str) -> str:
        log = (self.folder / f"{program}.log").read_text(errors="replace")
        return "\n".join(log.splitlines()[-15:])

    def _end(self, name: str) -> None:
        process = self._programs[name]
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
