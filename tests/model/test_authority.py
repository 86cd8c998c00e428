from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.http_values import authority_valid
from xproxy.model.authority import normalised, split_port, with_port

SCHEMES = st.sampled_from(["http", "https", "", "ws", "coap"])
LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("authority", "scheme", "plain"),
    [
        ("a.test", "http", "a.test"),
        ("A.Test", "http", "a.test"),
        ("a.test:80", "http", "a.test"),
        ("a.test:080", "http", "a.test"),
        ("a.test:443", "http", "a.test:443"),
        ("a.test:443", "https", "a.test"),
        ("a.test:80", "https", "a.test:80"),
        ("a.test:80", "", "a.test:80"),
        ("a.test:", "http", "a.test"),
        ("a.test.", "http", "a.test"),
        ("a.test.:80", "http", "a.test"),
        ("a.test..", "http", "a.test.."),
        (".", "http", "."),
        ("%61.test", "http", "a.test"),
        ("a%2Etest", "http", "a.test"),
        ("a%2ftest", "http", "a%2ftest"),
        ("[::1]:80", "http", "[::1]"),
        ("[0:0:0:0:0:0:0:1]", "http", "[::1]"),
        ("[2001:DB8::0:1]:8080", "http", "[2001:db8::1]:8080"),
        ("[v1.X]", "http", "[v1.x]"),
        ("[fe80::1%25Eth0]", "http", "[fe80::1%25eth0]"),
        ("", "http", ""),
    ],
)
def test_the_plainest_spelling(authority: str, scheme: str, plain: str) -> None:
    assert normalised(authority, scheme) == plain


@pytest.mark.parametrize(
    ("authority", "scheme", "found"),
    [
        ("a", "http", "a:80"),
        ("a:", "https", "a:443"),
        ("a:8080", "https", "a:8080"),
        ("a", "coap", "a"),
        ("[::1]", "http", "[::1]:80"),
        ("", "http", ""),
    ],
)
def test_the_port_that_is_meant(authority: str, scheme: str, found: str) -> None:
    assert with_port(authority, scheme) == found


@given(st.text(max_size=40), SCHEMES)
def test_any_text_has_one_plainest_spelling(text: str, scheme: str) -> None:
    plain = normalised(text, scheme)
    assert normalised(plain, scheme) == plain
    assert normalised(with_port(text, scheme), scheme) == plain


@given(NAME, st.sampled_from(["http", "https"]), st.data())
def test_every_spelling_of_an_authority_is_the_same(
    name: str, scheme: str, data: st.DataObject
) -> None:
    spelled = "".join(
        data.draw(st.sampled_from([char, char.upper(), f"%{ord(char):02X}", f"%{ord(char):02x}"]))
        for char in name
    )
    dot = data.draw(st.sampled_from(["", "."]))
    port = data.draw(st.sampled_from(["", ":", {"http": ":80", "https": ":443"}[scheme]]))
    authority = f"{spelled}{dot}{port}"
    assert authority_valid(authority)
    assert normalised(authority, scheme) == name


@given(NAME, NAME, st.integers(1, 65535), st.integers(1, 65535), SCHEMES)
def test_two_authorities_are_never_taken_for_one(
    one: str, other: str, port: int, other_port: int, scheme: str
) -> None:
    same = (one, port) == (other, other_port)
    assert (
        normalised(f"{one}:{port}", scheme) == normalised(f"{other}:{other_port}", scheme)
    ) is same


@given(st.text(max_size=20))
def test_splitting_is_total_and_loses_nothing(text: str) -> None:
    host, port = split_port(text)
    assert text in (host, f"{host}:{port}")
