"""Lines of a stream, whatever the chunks and however long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sensor.containers.lines import bounded_lines


@given(st.lists(st.binary(max_size=12)), st.integers(0, 20))
def test_chunks_make_no_difference(chunks: list[bytes], limit: int) -> None:
    *ended, _ = b"".join(chunks).split(b"\n")
    expected = [line if len(line) <= limit else None for line in ended]
    assert expected == list(bounded_lines(chunks, limit))
