"""The running sensor has no privilege left, and says so where it could not drop them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from patience import patient
from sensor_process import Sensor

from sensor.containers.discovery import WELL_KNOWN

if TYPE_CHECKING:
    from testbed import Engine

# Without these two in the bounding set, root cannot become another user.
CANNOT_DROP = ["setpriv", "--bounding-set", "-setuid,-setgid"]


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def tasks(pid: int) -> list[int]:
    return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]


def test_no_thread_has_a_capability_or_is_root(sensor: Sensor) -> None:
    """Each thread has credentials of its own in Linux, so each is looked at."""
    for task in tasks(sensor.pid):
        of_task = status(task)
        sets = {name: int(of_task[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")}
        assert sets == {"CapEff": 0, "CapPrm": 0, "CapInh": 0, "CapAmb": 0}
        assert "0" not in of_task["Uid"].split(), "real, effective, saved and file system uid"
        assert "0" not in of_task["Gid"].split()


def test_nothing_can_give_privileges_back(sensor: Sensor) -> None:
    assert status(sensor.pid)["NoNewPrivs"] == "1"


def test_only_the_groups_of_sockets_are_kept(sensor: Sensor, engine: Engine) -> None:
    """Of the engine's, and of those that the machine has in the well-known places."""
    sockets = [Path(engine.host.removeprefix("unix://"))]
    for pattern in WELL_KNOWN:
        sockets += Path("/").glob(pattern.lstrip("/"))
    kept = {int(group) for group in status(sensor.pid)["Groups"].split()}
    assert kept <= {socket.stat().st_gid for socket in sockets}


def test_the_compiler_is_gone(sensor: Sensor) -> None:
    """BCC brings LLVM along; neither it nor the child that used it outlives the start."""
    assert "libbcc" not in Path(f"/proc/{sensor.pid}/maps").read_text()
    children = {
        child
        for task in tasks(sensor.pid)
        for child in Path(f"/proc/{sensor.pid}/task/{task}/children").read_text().split()
    }
    commands = {
        Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        for child in children
    }
    assert not any("loader" in command for command in commands), commands


def test_where_privileges_cannot_be_dropped_it_refuses(engine: Engine) -> None:
    sensor = Sensor(prefix=CANNOT_DROP, environment=engine.environment).spawn()
    assert sensor.wait(patient(30)) == 1
    assert "privilege" in sensor.stderr
    assert "--keep-privileges" in sensor.stderr
    assert "Traceback" not in sensor.stderr
    assert "sensor ready" not in sensor.stderr


def test_keeping_privileges_has_to_be_asked_for(engine: Engine) -> None:
    with Sensor("--keep-privileges", prefix=CANNOT_DROP, environment=engine.environment) as sensor:
        assert status(sensor.pid)["Uid"].split()[1] == "0"
        assert sensor.stop() == 0


def test_nothing_in_the_working_directory_is_run_as_root(tmp_path: Path) -> None:
    """The children that load the program and read the rules are Python, too."""
    ran = tmp_path / "ran"
    for name in ("json", "ctypes", "sensor", "pickle", "bcc"):
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})\n")
    # by env: the harness itself starts everything in the repository
    with Sensor(prefix=["env", f"--chdir={tmp_path}"]) as sensor:
        assert Path(f"/proc/{sensor.pid}/cwd").readlink() == tmp_path
        assert sensor.stop() == 0
    assert not ran.exists(), ran.read_text()
