"""Image references, bounds, and what two sources make together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.containers.container import (
    MAX_LABEL_VALUE,
    MAX_LABELS,
    Container,
    bounded_labels,
    disagreements,
    merge,
    parse_image,
)

DIGEST = "sha256:" + "d" * 64


@pytest.mark.parametrize(
    ("reference", "parsed"),
    [
        ("nginx", ("nginx", "latest", None)),
        ("nginx:1.25", ("nginx", "1.25", None)),
        ("registry:5000/team/web", ("registry:5000/team/web", "latest", None)),
        ("registry:5000/team/web:1.2", ("registry:5000/team/web", "1.2", None)),
        (f"registry:5000/web:1.2@{DIGEST}", ("registry:5000/web", "1.2", DIGEST)),
        (f"web@{DIGEST}", ("web", None, DIGEST)),
        (DIGEST, (None, None, DIGEST)),
        ("", (None, None, None)),
        (None, (None, None, None)),
    ],
)
def test_image_references(reference: str | None, parsed: tuple[str | None, ...]) -> None:
    assert parsed == parse_image(reference)


@given(st.text())
def test_no_image_reference_raises(reference: str) -> None:
    parse_image(reference)


def test_labels_are_bounded_in_number_and_size_and_kubernetes_own_come_first() -> None:
    labels = {f"a{i:05}": "x" * 10_000 for i in range(1000)} | {"io.kubernetes.pod.name": "web-1"}
    kept, dropped = bounded_labels(labels)
    assert (len(kept), dropped) == (MAX_LABELS, 1001 - MAX_LABELS)
    assert kept["io.kubernetes.pod.name"] == "web-1"
    assert max(map(len, kept.values())) == MAX_LABEL_VALUE


def test_sources_that_contradict_each_other_are_both_shown() -> None:
    one = Container(id="i", source="docker", name="web", image_name="nginx", image_tag="1")
    two = Container(id="i", source="containerd", name="db", image_name="docker.io/library/nginx")
    assert disagreements([one, two]) == ("name: docker says 'web', containerd says 'db'",)


def test_the_long_name_that_cri_dockerd_gives_is_the_same_name() -> None:
    one = Container(id="i", source="docker", runtime="docker", name="k8s_app_web-1_default_u_0")
    two = Container(id="i", source="cri-dockerd", name="app")
    assert disagreements([one, two]) == ()


def test_merging_keeps_the_first_s_word_and_fills_up_from_the_others() -> None:
    one = Container(id="i", source="docker", name="web", privileged=False)
    two = Container(id="i", source="kubernetes", name="x", pod_name="web-1", complete=True)
    assert Container(
        id="i", source="docker", name="web", privileged=False, pod_name="web-1", complete=True
    ) == merge([one, two])
    assert merge([]) is None
