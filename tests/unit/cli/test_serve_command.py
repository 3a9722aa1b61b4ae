"""`sensor serve`: what it refuses before it serves anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from stored import make_alert, outgoing

from sensor.cli.serve import serve
from sensor.errors import SensorError
from sensor.store.writer import StoreWriter


@pytest.fixture
def store(tmp_path, monkeypatch):
    (tmp_path / "sensor.yaml").write_text("{}\n")
    monkeypatch.setenv("SENSOR_CONFIG", str(tmp_path / "sensor.yaml"))
    path = tmp_path / "alerts.db"
    with StoreWriter(path) as writer:
        writer.write([outgoing(make_alert())])
    return path


def refused(*arguments):
    result = CliRunner().invoke(serve, [str(each) for each in arguments])
    assert isinstance(result.exception, SensorError), result.output
    return str(result.exception)


@pytest.mark.parametrize("listen", ["0.0.0.0:8477", "[::]:8477", "192.0.2.1:8477"])
def test_what_others_can_reach_is_not_served_in_plain_text_by_accident(store, listen):
    assert "can be reached from outside" in refused("--store", store, "--listen", listen)


@pytest.mark.parametrize(
    "listen", ["8477", "example.com:80", "127.0.0.1:x", "127.0.0.1:70000", ":"]
)
def test_an_address_that_is_none(store, listen):
    assert f"--listen {listen}" in refused("--store", store, "--listen", listen)


@pytest.mark.parametrize("token", ["", "short", "with a\nline of another that is long", "ä" * 20])
def test_a_token_that_could_be_guessed_or_not_be_sent(store, tmp_path, token):
    file = tmp_path / "token"
    file.write_text(token)

    assert "a token is 16 plain characters or more" in refused(
        "--store", store, "--token-file", file
    )


def test_a_certificate_without_its_key_and_one_that_is_none(store, tmp_path):
    file = tmp_path / "file.pem"
    file.write_text("no certificate")

    assert "go together" in refused("--store", store, "--certificate", file)
    both = refused(
        "--store", store, "--certificate", file, "--key", file, "--listen", "127.0.0.1:0"
    )
    assert "the certificate cannot be used" in both


def test_a_store_that_is_not_there(store):
    assert "there is no store" in refused("--store", store.with_name("none.db"))
