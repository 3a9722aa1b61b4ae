"""A node for the whole run, with pods to watch. `make test-kubernetes` runs this; `make test` does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "deploy"), str(HERE.parent / "live")]

# Minutes, a compiler and a cluster: only for those who ask for it.
CACHE = os.environ.get("SENSOR_KUBERNETES_CACHE")
if CACHE is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import binaries
    import deployed
    import image_engines
    import images
    import kubernetes_tools
    import node as cluster
    import node_images
    from measured import Measured

    Say = Callable[[str], None]
    MEASURED = Measured()

    def pytest_addoption(parser: pytest.Parser) -> None:
        about = "put what was measured into docs/operations.md, if all passed"
        parser.addoption("--write-results", action="store_true", help=about)

    def pytest_terminal_summary(
        terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
    ) -> None:
        if MEASURED.rows:
            terminalreporter.section("measured on the node")
            for what, measured in MEASURED.rows:
                terminalreporter.line(f"{what}: {measured}")
        if config.getoption("--write-results") and exitstatus == 0:
            MEASURED.write()

    @pytest.fixture(scope="session")
    def measured() -> Measured:
        return MEASURED

    @pytest.fixture(scope="session")
    def say(pytestconfig: pytest.Config) -> Say:
        """Tells at once what goes on."""
        terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")

        def write(text: str) -> None:
            terminal.ensure_newline()
            terminal.write_line(f"  {text}", flush=True)

        return write

    @pytest.fixture(scope="session")
    def sensor_image(tmp_path_factory: pytest.TempPathFactory, say: Say) -> bytes:
        """The image of this checkout, or the archive that SENSOR_IMAGE_ARCHIVE names."""
        if ready := os.environ.get("SENSOR_IMAGE_ARCHIVE"):
            return Path(ready).read_bytes()
        say("building the sensor's image")
        return image_engines.build(tmp_path_factory.mktemp("image")).read_bytes()

    @pytest.fixture(scope="session")
    def node(
        sensor_image: bytes, tmp_path_factory: pytest.TempPathFactory, say: Say
    ) -> Iterator[cluster.Node]:
        """A ready node that has the images and runs the pods of pods.yaml."""
        for reason in (cluster.missing(), images.missing_for_images()):
            if reason is not None:
                pytest.fail(reason)
        kubectl = kubernetes_tools.find("kubectl")
        if kubectl is None:
            pytest.fail(kubernetes_tools.MISSING.format("kubectl"))
        built = binaries.kubernetes(Path(str(CACHE)), say)
        programs = images.compile_programs(tmp_path_factory.mktemp("programs"))
        busybox = images.busybox_tree(programs)
        say("starting the control plane")
        with cluster.Node(built, kubectl) as node:
            node.load(node_images.archive(f"docker.io/{images.BUSYBOX}", busybox))
            node.load(node_images.archive(cluster.PAUSE, busybox, ["/bin/sleep", "1000000"]))
            node.load(sensor_image)
            node.tag(f"{image_engines.NAME}:latest", deployed.IMAGE)
            node.join()
            say("the node is ready")
            cluster.wait_for(
                lambda: bool(node.json("get", "serviceaccounts")["items"]), "service accounts"
            )
            node.kubectl("apply", "--filename", HERE / "pods.yaml")
            node.kubectl(
                *["--namespace", "shop", "rollout", "status", "deployment/web", "--timeout=60s"]
            )
            waiting = "--namespace shop wait --for=condition=Ready pod --all --timeout=60s"
            node.kubectl(*waiting.split())
            yield node
