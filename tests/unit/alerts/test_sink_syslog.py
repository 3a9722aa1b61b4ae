"""The syslog sink: RFC 5424 messages that nothing in a document can break, over four transports."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
from datetime import datetime

import pytest

from sensor.alerts.sinks.options import SyslogOptions, Tls
from sensor.alerts.sinks.protocol import SinkError
from sensor.alerts.sinks.syslog import SyslogSink

MESSAGE = re.compile(rb"<(\d+)>1 (\S+) (\S+) (\S+) (\d+) (\S+) - @cee: (\{.*\})", re.DOTALL)


def make(**options):
    options = {"format": "rfc5424"} | options
    return SyslogSink(SyslogOptions(**options), "sinks[0]")


def parsed(data):
    match = MESSAGE.fullmatch(data)
    assert match is not None, data
    return match.groups()


def frames(data):
    """The messages of an octet-counted stream."""
    found = []
    while data:
        length, _, data = data.partition(b" ")
        found.append(data[: int(length)])
        data = data[int(length) :]
    return found


class Listener:
    """Takes connections one after the other and keeps what each sent."""

    def __init__(self, context=None):
        self.context = context
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.connections = []
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
                if self.context:
                    connection = self.context.wrap_socket(connection, server_side=True)
            except OSError:
                if self.socket.fileno() == -1:
                    return
                continue
            data = bytearray()
            with self.changed:
                self.connections.append((connection, data))
                self.changed.notify_all()
            while chunk := self.receive(connection):
                with self.changed:
                    data += chunk
                    self.changed.notify_all()

    @staticmethod
    def receive(connection):
        try:
            return connection.recv(65536)
        except OSError:
            return b""

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages()) >= count, timeout=10)
        return self.messages()

    def messages(self):
        return [each for _, data in self.connections for each in frames(bytes(data))]

    def close(self):
        self.socket.close()


@pytest.fixture
def listener():
    made = Listener()
    yield made
    made.close()


def test_a_message(alert, outgoing, rule):
    document = alert(rule=rule(severity="high"))

    priority, time, host, app, _, kind, body = parsed(make().message(outgoing(document)))

    assert (int(priority), time, app, kind) == (
        16 * 8 + 3,
        b"2026-08-21T12:00:00.123456Z",
        b"sensor",
        b"alert",
    )
    assert host == socket.gethostname().encode()
    assert json.loads(body) == document


def test_a_message_as_the_c_library_sends_it(alert, outgoing):
    document = alert()

    message = SyslogSink(SyslogOptions(), "k").message(outgoing(document)).decode()

    match = re.fullmatch(r"<132>(\w{3} [ \d]\d \d\d:\d\d:\d\d) sensor\[\d+\]: @cee: (.*)", message)
    local = datetime.fromisoformat(document["@timestamp"]).astimezone()
    assert match[1] == f"Aug {local.day:2} {local:%H:%M:%S}"
    assert json.loads(match[2]) == document


@pytest.mark.parametrize(
    ("severity", "expected"), [("low", 5), ("medium", 4), ("high", 3), ("critical", 2)]
)
def test_severities(alert, outgoing, rule, severity, expected):
    message = make(facility=4).message(outgoing(alert(rule=rule(severity=severity))))

    assert int(parsed(message)[0]) == 4 * 8 + expected


def test_a_long_document_is_sent_in_a_short_form(alert, outgoing):
    document = alert("grep", "x" * 100_000, "aws_secret_access_key")

    for limit in (1024, 2000, 8000):
        message = make(max_bytes=limit).message(outgoing(document))
        body = json.loads(parsed(message)[6])
        assert len(message) <= limit
        assert body["sensor"]["shortened"] is True
        assert body["event"]["id"] == document["event"]["id"]
    assert "aws_secret_access_key" in body["process"]["command_line"]


def test_hostile_values_neither_end_a_message_nor_begin_another(hostile, outgoing):
    hostile["@timestamp"] = "x y\n<13>1 - fake"
    message = make().message(outgoing(hostile))

    assert message.decode().isprintable()
    assert parsed(message)[1] == b"x_y_<13>1_-_fake"
    assert json.loads(parsed(message)[6])["user"]["name"].startswith("a\nb")


def test_a_local_socket(tmp_path, alert, outgoing):
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(tmp_path / "log"))
    receiver.settimeout(10)
    sink = make(address=str(tmp_path / "log"))

    sink.deliver([outgoing(alert()), outgoing(alert("find"))])

    assert json.loads(parsed(receiver.recv(65536))[6])["process"]["args"][0] == "grep"
    assert json.loads(parsed(receiver.recv(65536))[6])["process"]["args"][0] == "find"
    sink.close()
    receiver.close()


def test_a_local_socket_that_is_gone_is_tried_again(tmp_path, alert, outgoing):
    sink = make(address=str(tmp_path / "log"))
    with pytest.raises(SinkError, match="No such file"):
        sink.deliver([outgoing(alert())])
    for _ in range(2):
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(str(tmp_path / "log"))
        try:
            sink.deliver([outgoing(alert())])
        except SinkError:
            sink.deliver([outgoing(alert())])
        receiver.settimeout(10)
        assert parsed(receiver.recv(65536))
        receiver.close()
        (tmp_path / "log").unlink()


def test_udp(alert, outgoing):
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(10)
    sink = make(transport="udp", address=f"127.0.0.1:{receiver.getsockname()[1]}")

    sink.deliver([outgoing(alert("grep", "x" * 70_000))])

    assert json.loads(parsed(receiver.recv(65536))[6])["sensor"]["shortened"] is True
    sink.close()
    receiver.close()


def test_tcp_counts_octets(listener, hostile, alert, outgoing):
    sink = make(transport="tcp", address=listener.address)

    sink.deliver([outgoing(hostile), outgoing(alert())])
    sink.deliver([outgoing(alert("find"))])

    bodies = [json.loads(parsed(each)[6]) for each in listener.wait(3)]
    assert [body["event"]["id"] for body in bodies] == [
        hostile["event"]["id"],
        alert()["event"]["id"],
        alert("find")["event"]["id"],
    ]
    assert len(listener.connections) == 1
    sink.close()


def test_a_receiver_that_went_away_is_noticed_before_anything_is_lost(listener, alert, outgoing):
    sink = make(transport="tcp", address=listener.address)
    sink.deliver([outgoing(alert())])
    listener.wait(1)
    listener.connections[0][0].shutdown(socket.SHUT_RDWR)
    while sink._socket is not None:
        try:
            sink._raise_if_closed(sink._socket)
        except OSError:
            break

    with pytest.raises(SinkError, match="closed by the receiver"):
        sink.deliver([outgoing(alert("find"))])
    sink.deliver([outgoing(alert("find"))])

    assert len(listener.wait(2)) == 2
    sink.close()


def test_nobody_listening(alert, outgoing):
    closed = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{closed.getsockname()[1]}"
    closed.close()

    with pytest.raises(SinkError, match=f"{address}: Connection refused"):
        make(transport="tcp", address=address).deliver([outgoing(alert())])


def test_a_receiver_that_does_not_read_runs_into_the_time_limit(alert, outgoing):
    deaf = socket.create_server(("127.0.0.1", 0), backlog=1)
    address = f"127.0.0.1:{deaf.getsockname()[1]}"
    sink = make(transport="tcp", address=address, timeout=0.2, max_bytes=1 << 20)
    batch = [outgoing(alert("grep", "x" * 400_000))] * 20

    with pytest.raises(SinkError, match="timed out"):
        sink.deliver(batch)
    deaf.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost that signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key", "-out", folder / "cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_tls_checks_the_receivers_name_and_authority(certificate, alert, outgoing):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert", certificate / "key")
    listener = Listener(context)
    port = listener.address.rpartition(":")[2]
    trusting = Tls(ca=str(certificate / "cert"))

    sink = make(transport="tls", address=f"localhost:{port}", tls=trusting)
    sink.deliver([outgoing(alert())])
    sink.deliver([outgoing(alert("find"))])
    assert len(listener.wait(2)) == 2
    assert len(listener.connections) == 1
    sink.close()

    with pytest.raises(SinkError, match=r"certificate verify failed|unable to get local issuer"):
        make(transport="tls", address=f"localhost:{port}").deliver([outgoing(alert())])
    with pytest.raises(SinkError, match=r"CERTIFICATE_VERIFY_FAILED|not valid for"):
        make(transport="tls", address=f"127.0.0.1:{port}", tls=trusting).deliver(
            [outgoing(alert())]
        )
    listener.close()
