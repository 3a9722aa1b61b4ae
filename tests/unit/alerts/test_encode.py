"""Encoded documents are one line of valid UTF-8 JSON, whatever a process put into its argv."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.alerts.encode import encode

# Every code point, lone surrogates among them.
_any_text = st.text(alphabet=st.characters(codec=None), max_size=40)
_bytes_as_text = st.binary(max_size=60).map(lambda data: data.decode("utf-8", "surrogateescape"))
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _any_text | _bytes_as_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_any_text, inner, max_size=4),
    max_leaves=12,
)


def test_clean_document_is_plain_json():
    document = {"process": {"args": ["grep", "größe", "日本"]}, "pid": 7, "ok": True}

    assert encode(document) == (
        '{"process":{"args":["grep","größe","日本"]},"pid":7,"ok":true}'.encode()
    )


def test_bytes_that_were_not_utf8_become_visible_escapes():
    document = {"args": [b"caf\xe9 \xff".decode("utf-8", "surrogateescape")]}

    assert json.loads(encode(document)) == {"args": ["caf\\xe9 \\xff"]}


def test_other_lone_surrogates_become_visible_escapes_in_keys_too():
    assert json.loads(encode({"\ud800": "\udfff"})) == {"\\ud800": "\\udfff"}


def test_terminal_and_bidi_characters_are_json_escapes_and_read_back_the_same():
    text = "\x00\x1b[31m\x7f\x9b31m\u200b\u202e\u2066\u2028\ufeff\U000e0041\n\r"

    line = encode({"a": text})

    assert line.isascii()
    assert line.decode().isprintable()
    assert json.loads(line) == {"a": text}


def test_document_is_not_changed():
    document = {"args": ["\udcff"]}

    encode(document)

    assert document == {"args": ["\udcff"]}


@settings(max_examples=300)
@given(st.dictionaries(_any_text, _values, max_size=4))
def test_any_document_is_one_line_of_valid_json(document):
    line = encode(document)

    assert b"\n" not in line
    text = line.decode("utf-8")
    assert not any(ch in text for ch in "\x1b\x7f\x9b\u202e\u2028")
    json.loads(line)


@given(_any_text)
def test_well_formed_text_reads_back_the_same(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert json.loads(encode({"a": text})) == {"a": text}
