"""Sinks are configured in data: mistakes are named with their place, secrets are never shown."""

from __future__ import annotations

import pytest

from sensor.alerts.sinks.options import Secret, SecretText, build_sinks
from sensor.errors import ConfigurationError


def build(*values):
    return build_sinks(values)


def test_each_kind_of_sink_is_made_and_named(tmp_path):
    sinks = build(
        {"type": "file", "path": str(tmp_path / "a.json")},
        {"type": "syslog"},
        {"type": "http", "url": "https://example.org/x"},
        {"type": "alertmanager", "url": "http://127.0.0.1:9093"},
        {"type": "http", "name": "chat", "url": "http://example.org", "format": "slack"},
    )

    assert [sink.name for sink in sinks] == ["file", "syslog", "http", "alertmanager", "chat"]
    assert all(sink.durable for sink in sinks)
    for sink in sinks:
        sink.close()


def test_what_a_sink_wants_is_set():
    [sink] = build({"type": "syslog", "minimum_severity": "high"})
    [events] = build({"type": "syslog", "events": True})

    assert [sink.accepts(each, is_alert=True) for each in (47, 72, 73, 99)] == [
        False,
        False,
        True,
        True,
    ]
    assert not sink.accepts(99, is_alert=False)
    assert events.accepts(0, is_alert=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": "carrier-pigeon"}, "sinks[0].type: invalid value 'carrier-pigeon'"),
        ({}, "sinks[0]: object missing required field `type`"),
        (7, "sinks[0]: expected `object`"),
        ({"type": "http"}, "sinks[0]: object missing required field `url`"),
        ({"type": "http", "url": "x", "ulr": 1}, "sinks[0]: object contains unknown field `ulr`"),
        ({"type": "http", "url": "ftp://x"}, "sinks[0].url: not an address"),
        ({"type": "http", "url": "http://[x"}, "sinks[0].url: not an address"),
        ({"type": "http", "url": {"env": "SENSOR_NO_SUCH"}}, "the variable SENSOR_NO_SUCH is not set"),
        ({"type": "http", "url": {"file": "/none"}}, "sinks[0].url: /none: No such file"),
        ({"type": "http", "url": {}}, "sinks[0].url: give either `file` or `env`"),
        (
            {"type": "http", "url": "https://x", "tls": {"ca": "/none"}},
            "sinks[0].tls.ca: /none: No such file",
        ),
        ({"type": "http", "url": "https://x", "tls": {"key": "/k"}}, "needs a `certificate`"),
        ({"type": "syslog", "transport": "tcp", "address": "a:b:c"}, "sinks[0].address: not like"),
        ({"type": "syslog", "transport": "tcp", "address": "h:99999"}, "not like HOST:PORT"),
        ({"type": "syslog", "transport": "tls", "address": "h", "tls": {"ca": "/etc/hostname"}}, "not usable PEM"),
        ({"type": "syslog", "app_name": "two words"}, "sinks[0].app_name"),
        ({"type": "file", "path": "/x", "max_bytes": 1}, "sinks[0].max_bytes"),
        ({"type": "alertmanager", "url": "http://x", "labels": {"a-b": "c"}}, "not a label's name"),
        ({"type": "elasticsearch", "urls": []}, "sinks[0].urls"),
        ({"type": "elasticsearch", "urls": ["http://x:1"], "username": "u"}, "go together"),
        ({"type": "elasticsearch", "urls": ["x"]}, "sinks[0].urls"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(value, message):
    with pytest.raises(ConfigurationError) as raised:
        build(value)

    assert message in str(raised.value)


def test_two_sinks_cannot_have_one_name():
    with pytest.raises(ConfigurationError, match=r"sinks\[1\]: the name syslog is taken"):
        build({"type": "syslog"}, {"type": "syslog"})


def test_a_secret_is_read_from_a_file_or_the_environment_and_does_not_show(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setenv("SENSOR_TOKEN", "s3cret")

    for secret in (Secret(file=str(tmp_path / "token")), Secret(env="SENSOR_TOKEN")):
        value = secret.read("k")
        assert value == "s3cret"
        assert "s3cret" not in repr([value, secret])
    assert repr(SecretText("x")) == "'***'"
