"""Secrets do not leave the machine; what was searched for, and where, does."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import make_alert, make_container, make_rule, outgoing

from sensor.alerts.collapse import Collapser
from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.encode import encode
from sensor.alerts.notice import notice
from sensor.alerts.redaction.argv import redact_args
from sensor.alerts.redaction.document import Redactor
from sensor.alerts.redaction.patterns import RedactionRule
from sensor.alerts.redaction.text import TextRedactor
from sensor.alerts.sinks.options import build_sinks
from sensor.alerts.sinks.protocol import DELIVERED
from sensor.errors import ConfigurationError

# Made up, in parts, so that nobody takes them for real ones.
AWS_ID = "AKIA" + "IOSFODNN7" + "EXAMPLE"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
GITHUB = "ghp_" + "a1B2" * 9
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0" + ".c2lnbmF0dXJl"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----"

TEXTS = TextRedactor()


def redacted(text):
    found = Counter()
    return TEXTS.text(text, found), dict(found)


def redacted_args(*args):
    found = Counter()
    return redact_args(args, TEXTS, found), dict(found)


@pytest.mark.parametrize(
    ("text", "expected", "kind"),
    [
        (f"x {AWS_ID} y", "x [redacted] y", "aws_access_key_id"),
        (f"AWS_SECRET_ACCESS_KEY={AWS_SECRET} aws s3 ls", "AWS_SECRET_ACCESS_KEY=[redacted] aws s3 ls", "aws_secret_access_key"),
        (f"aws_secret_access_key {AWS_SECRET}", "aws_secret_access_key [redacted]", "aws_secret_access_key"),
        ("deploy --password=hunter2 --fast", "deploy --password=[redacted] --fast", "password"),
        ("deploy --db-password hunter2 --fast", "deploy --db-password [redacted] --fast", "password"),
        ("deploy --token 'a b' x", "deploy --token '[redacted]' x", "token"),
        ("'--password=my own' x", "'--password=[redacted]' x", "password"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=[redacted] psql", "password"),
        ("MYSQL_PWD=x1;mysql", "MYSQL_PWD=[redacted];mysql", "password"),
        ("DB_PASS=hunter2", "DB_PASS=[redacted]", "password"),
        ('{"client_secret": "s3 cr3t"}', '{"client_secret": "[redacted]"}', "secret"),
        ('{"apiKey":"abc"}', '{"apiKey":"[redacted]"}', "key"),
        ("password: hunter2", "password: [redacted]", "password"),
        ("Server=db;Password=hunter2;Port=1", "Server=db;Password=[redacted];Port=1", "password"),
        ("https://x.test/?token=abc&page=2", "https://x.test/?token=[redacted]&page=2", "token"),
        ("https://x.test/?a=1&X-Amz-Signature=abc", "https://x.test/?a=1&X-Amz-Signature=[redacted]", "signature"),
        ("postgres://me:p@ss@db:5432/x", "postgres://me:[redacted]@db:5432/x", "url_password"),
        (f"https://{GITHUB}@github.test/x", "https://[redacted]@github.test/x", "token"),
        ("https://0123456789abcdefghij@x.test/", "https://[redacted]@x.test/", "url_password"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]", "authorization"),
        ("authorization: Basic bWU6c2VjcmV0", "authorization: Basic [redacted]", "authorization"),
        ("X-Api-Key:abc", "X-Api-Key:[redacted]", "header"),
        ("Cookie: session=abc; other=def", "Cookie: [redacted]", "cookie"),
        (f"echo {GITHUB}", "echo [redacted]", "token"),
        (f"echo {JWT}", "echo [redacted]", "jwt"),
        (KEY, "-----BEGIN RSA PRIVATE KEY-----[redacted]-----END RSA PRIVATE KEY-----", "private_key"),
        (KEY[:40], "-----BEGIN RSA PRIVATE KEY-----[redacted]", "private_key"),
        ("openssl rsa -passin pass:hunter2", "openssl rsa -passin pass:[redacted]", "password"),
        ("useradd -p $6$abcdefgh$0123456789", "useradd -p [redacted]", "password_hash"),
        ("cd /x; mysql -u root -phunter2 db", "cd /x; mysql -u root -p[redacted] db", "password"),
        ("sshpass -p hunter2 ssh x", "sshpass -p [redacted] ssh x", "password"),
        ("curl -s -u me:hunter2 x", "curl -s -u me:[redacted] x", "password"),
        ("docker login -u me -p hunter2 r", "docker login -u me -p [redacted] r", "password"),
        # A long argument lost its middle: its end must not be left.
        ("--password=hun[… 100 bytes …]ter2 x", "--password=[redacted] x", "password"),
        ("--password hun[… 100 bytes …]ter2 x", "--password [redacted] x", "password"),
        ("password=\\xffabc é", "password=[redacted] é", "password"),
    ],
)  # fmt: skip
def test_secrets_in_a_text(text, expected, kind):
    assert redacted(text) == (expected, {kind: 1})


@pytest.mark.parametrize(
    "text",
    [
        "grep -r aws_access_key_id /srv",
        "grep -rE 'aws_secret_access_key|aws_session_token' /",
        "find / -name credentials -o -name '*secret*' -o -name id_rsa",
        "grep 'password=' /etc/passwd",
        "grep password= /etc/passwd",
        "grep -E 'password=.*' /etc",
        "grep 'token: ' /etc",
        "grep -rE 'AKIA[0-9A-Z]{16}' /",
        "grep -r 'BEGIN RSA PRIVATE KEY' /root",
        "cat /root/.aws/credentials /run/secrets/token",
        "x --password-file=/run/secrets/db --password-stdin registry",
        "AWS_SHARED_CREDENTIALS_FILE=/root/.aws/credentials",
        "GOOGLE_APPLICATION_CREDENTIALS=/etc/key.json",
        "mysql --password=$MYSQL_PASSWORD --password=${X} --token=$(cat x)",
        "--secret-name=db --token-url=https://x.test --keystore-type=jks",
        "mysql -u root -p db",
        "aws configure set aws_access_key_id",
        "docker run -p 8080:80 -u me:staff x",
        "grep -p x; cp -p a b",
        "https://x.test:8080/a@b http://me@x.test/",
        "compass=north bypass=yes",
        "signature-version=4",
        "--require-password=true",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == (text, {})


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["x", "--password", "my own; secret"], ["x", "--password", "[redacted]"]),
        (["x", "--password=a b;c&d"], ["x", "--password=[redacted]"]),
        (["env", "API_TOKEN=a b", "x"], ["env", "API_TOKEN=[redacted]", "x"]),
        (["sudo", "/usr/bin/mysql", "-uroot", "-pa b"], ["sudo", "/usr/bin/mysql", "-uroot", "-p[redacted]"]),
        (["curl", "-u", "me:a b", "x"], ["curl", "-u", "me:[redacted]", "x"]),
        (["curl", "-ume:ab", "x"], ["curl", "-ume:[redacted]", "x"]),
        (["curl", "-b", "session=ab", "x"], ["curl", "-b", "[redacted]", "x"]),
        (["redis-cli", "-a", "ab", "keys"], ["redis-cli", "-a", "[redacted]", "keys"]),
        (["docker", "login", "-p", "ab"], ["docker", "login", "-p", "[redacted]"]),
        (
            ["aws", "configure", "set", "aws_secret_access_key", AWS_SECRET],
            ["aws", "configure", "set", "aws_secret_access_key", "[redacted]"],
        ),
        (["sh", "-c", "mysql -pab x"], ["sh", "-c", "mysql -p[redacted] x"]),
        (["curl", "-H", "X-Auth-Token: ab"], ["curl", "-H", "X-Auth-Token: [redacted]"]),
    ],
)  # fmt: skip
def test_secrets_in_an_argv(args, expected):
    result, found = redacted_args(*args)
    assert result == expected
    assert sum(found.values()) == 1


@pytest.mark.parametrize(
    "args",
    [
        ["grep", "-r", "aws_secret_access_key", "/srv"],
        ["grep", "-e", "password", "-e", "token", "/etc/shadow"],
        ["grep", "--regexp=aws_secret_access_key", "/"],
        ["x", "--secret=aws_access_key_id"],
        ["x", "--password", "--verbose"],
        ["x", "--password-stdin", "registry"],
        ["docker", "run", "-p", "8080:80", "image"],
        ["cp", "-p", "a", "b"],
        ["mysql", "-p", "database"],
        ["curl", "-b", "cookies.txt", "x"],
        ["x", "--token"],
        [],
    ],
)
def test_an_argv_without_secrets_stays(args):
    assert redacted_args(*args) == (args, {})


def test_a_document_is_redacted_wherever_the_secret_stands_and_says_so():
    secret = "hunter2"
    document = make_alert(
        0,
        *("grep", "-r", "aws_access_key_id", f"--password={secret}"),
        container=make_container() | {"labels": {"com.example.db-password": secret, "team": "x"}},
    )
    document["process"]["parent"] = {
        "args": ["bash", "-c", f"PASSWORD={secret} x"],
        "command_line": f"bash -c PASSWORD={secret} x",
    }
    document["process"]["env_vars"] = [f"DB_PASSWORD={secret} {secret}"]
    document["sensor"]["recent_activity"] = [{"process": {"args": ["mysql", f"-p{secret}"]}}]
    document["sensor"]["sequence"] = [{"process": {"command_line": f"x --token {secret}"}}]

    result = Redactor().document(document)

    assert secret not in encode(result).decode()
    # The process leads its group: its argv stands in the document twice.
    assert result["sensor"]["redacted"] == {"count": 7, "kinds": ["password", "token"]}
    assert result["process"]["args"] == [
        "grep", "-r", "aws_access_key_id", "--password=[redacted]",
    ]  # fmt: skip
    assert result["process"]["command_line"] == "grep -r aws_access_key_id --password=[redacted]"
    assert "grep -r aws_access_key_id '--password=[redacted]'" in result["message"]
    assert result["container"]["labels"] == {"com.example.db-password": "[redacted]", "team": "x"}
    assert result["rule"] == document["rule"]
    # The document that others hold is not changed.
    assert document["process"]["args"][-1] == f"--password={secret}"
    assert "redacted" not in document["sensor"]


def test_a_document_without_secrets_is_the_same_object():
    document = make_alert(0, "grep", "-r", "aws_secret_access_key", "/srv")

    assert Redactor().document(document) is document


def test_a_message_that_was_shortened_does_not_keep_the_end_of_a_secret():
    secret = "s" * 300 + "the-end"
    result = Redactor().document(make_alert(0, "x", f"--password=a b {secret}", "y" * 300))

    assert "the-end" not in encode(result).decode()


def test_raw_bytes_of_an_argv_go_with_its_secret():
    document = make_alert(0, "x", "--password=a\udcffb")
    assert "args_base64" in document["sensor"]

    result = Redactor().document(document)
    assert result["process"]["args"] == ["x", "--password=[redacted]"]
    assert "args_base64" not in result["sensor"]
    assert result["sensor"]["redacted"]["left_out"] == ["sensor.args_base64"]


def test_the_sensors_own_words_are_redacted_too():
    word = notice("reload_failed", "cannot read https://me:hunter2@x.test/", severity="low", time=0)

    result = Redactor().document(word)
    assert result["message"] == "cannot read https://me:[redacted]@x.test/"
    assert result["sensor"]["redacted"] == {"count": 1, "kinds": ["url_password"]}


def test_an_update_is_redacted_like_its_alert():
    collapser, rule = Collapser(window=60), make_rule()
    first = make_alert(0, "x", "--password=hunter2")
    collapser.offer(first, rule, 0)
    collapser.offer(make_alert(0, "x", "--password=hunter3"), rule, 1)
    [update] = collapser.flush()

    result = encode(Redactor().document(update)).decode()
    assert "hunter" not in result
    assert "--password=[redacted]" in result


def test_a_document_that_breaks_the_redactor_leaves_without_its_texts(monkeypatch, caplog):
    redactor = Redactor()
    monkeypatch.setattr(redactor, "_document", lambda _: 1 / 0)
    document = make_alert(0, "x", "--password=hunter2")

    result = redactor.document(document)
    assert "hunter2" not in encode(result).decode()
    assert result["event"] == document["event"]
    assert result["container"]["name"] == "web"
    assert result["sensor"]["redacted"] == {"failed": True}
    assert redactor.failed == 1
    assert "could not be redacted" in caplog.text


def test_settings():
    own = RedactionRule("internal_key", r"\bik-(?P<secret>[a-z]+)")
    redactor = Redactor(rules=[own], without=["cookie", "token"], keep=["changeme"])

    assert redactor.text("x ik-abc --token abc --password=changeme") == (
        "x ik-[redacted] --token abc --password=changeme"
    )
    assert redactor.text("Cookie: a=b") == "Cookie: a=b"
    assert redactor.text("--password=other") == "--password=[redacted]"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rules": [RedactionRule("x", "ok"), RedactionRule("y", "(")]}, r"redaction\.rules\[1\]\.pattern"),
        ({"rules": [RedactionRule("x", r"(a)\1")]}, r"redaction\.rules\[0\]\.pattern"),
        ({"without": ["cookies"]}, r"redaction\.without: no such kind: cookies; there are .*cookie"),
    ],
)  # fmt: skip
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Redactor(**settings).check()


_SECRET = st.text(st.sampled_from("abcXYZ019"), min_size=8, max_size=24).map(
    lambda each: f"s3{each}"
)
_AROUND = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(["grep", "aws_access_key_id", "-r", "--password-file", "sh", "-c", "curl"]),
    ),
    max_size=5,
)


@given(
    secret=_SECRET,
    before=_AROUND,
    after=_AROUND,
    form=st.sampled_from(
        ["--password={}", "--api-key={}", "MY_TOKEN={}", "https://me:{}@x.test/", "password: {}"]
    ),
)
def test_whatever_stands_around_it_a_secret_does_not_get_out(secret, before, after, form):
    document = make_alert(0, *before, form.format(secret), *after)

    assert secret not in encode(Redactor().document(document)).decode()


@given(st.lists(st.text(max_size=30) | st.sampled_from(["--password", "x=y", "curl", "-u", "a:b"])))
def test_what_is_redacted_already_stays(args):
    once, _ = redacted_args(*args)

    assert redacted_args(*once) == (once, {})


@pytest.mark.parametrize(
    "piece",
    ["a", "password=", "password='", "--token ", "-----BEGIN PRIVATE KEY-----", "http://a:", "eyJa.",
     "curl -u a:", "mysql -p ", "[… 1 bytes …]", "AKIA", "x-key:", "pass:", "\\'\"", "\udcff"],
)  # fmt: skip
def test_a_megabyte_of_anything_is_gone_through(piece):
    """What would take minutes where time is not linear."""
    text = piece * (1_000_000 // len(piece))

    assert len(redacted(text)[0]) <= 4 * len(text)


class Receiver:
    """A sink that keeps what it gets."""

    durable = False
    rendered = True
    batch_size = 10

    def __init__(self, name, redact=None):
        self.name = name
        self.got = []
        if redact is not None:
            self.redact = redact

    def accepts(self, _severity, *, is_alert):
        return is_alert

    def deliver(self, batch):
        self.got += [(item.payload, item.submitted) for item in batch]
        return DELIVERED

    def close(self):
        pass


def test_each_sink_gets_secrets_only_where_it_says_so():
    silent, whole = Receiver("silent"), Receiver("whole", redact=False)
    dispatcher = Dispatcher([silent, whole], redactor=Redactor())
    dispatcher.start()
    document = make_alert(0, "x", "--password=hunter2\udcff")
    dispatcher.submit(document, 47)
    assert dispatcher.close(20)

    [(payload, submitted)] = silent.got
    assert b"hunter2" not in payload
    assert "hunter2" not in str(submitted)
    assert json.loads(payload)["sensor"]["redacted"]["kinds"] == ["password"]
    assert whole.got == [(outgoing(document).payload, document)]


def test_a_configured_sink_says_whether_it_wants_secrets(tmp_path):
    one, other = build_sinks(
        [
            {"type": "file", "path": str(tmp_path / "a")},
            {"type": "file", "path": str(tmp_path / "b"), "name": "b", "redact": False},
        ]
    )
    assert (one.redact, other.redact) == (True, False)


def test_the_patterns_are_compiled_with_the_first_document_only():
    code = "import sys, sensor.delivery; print('re2' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ}
    )
    assert done.stdout == b"False\n"


@pytest.mark.parametrize(
    "argument", ["nothing", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"]
)
def test_a_redacted_item_is_gone_with_its_last_reader(argument):
    """And does not wait for the collector, which may be long: each holds a whole document."""
    redactor = Redactor()
    gc.collect()
    gc.disable()
    try:
        item = outgoing(make_alert(0, "grep", argument))
        kind = type(item)
        others = sum(type(each) is kind for each in gc.get_objects()) - 1
        first = item.redacted(redactor)
        assert item.redacted(redactor) is first
        del item, first
        assert sum(type(each) is kind for each in gc.get_objects()) == others
    finally:
        gc.enable()
