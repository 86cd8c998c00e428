from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.model.address import Address, NotAnAddress


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("example.org:0", Address("example.org", 0)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[fe80::1%lo]:1", Address("fe80::1%lo", 1)),
        ("unix:/run/x.sock", Address("", 0, "/run/x.sock")),
    ],
)
def test_an_address_reads_back_as_it_was_written(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text
    assert address.is_unix == text.startswith("unix:")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("80", "host:port"),
        ("a:b", "host:port"),
        ("a:", "host:port"),
        ("a:٣", "host:port"),
        ("a:65536", "above 65535"),
        ("::1:80", "brackets"),
        ("[nonsense]:80", "nonsense"),
        (":80", "no host"),
        ("unix:", "path"),
        ("unix:/a\0b", "NUL"),
    ],
)
def test_what_is_no_address_says_what_was_expected(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        Address.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("http://a.example:8080/path", "a.example:8080"),
        ("http://a.example", "a.example:80"),
        ("https://user:pw@a.example/x?y", "a.example:443"),
        ("http://[::1]:80", "[::1]:80"),
        ("tcp://a.example:1", "a.example:1"),
        ("tcp://a.example", ""),
        ("http://", ""),
    ],
)
def test_of_a_url_the_address_is_suggested(text: str, suggestion: str) -> None:
    with pytest.raises(NotAnAddress, match="is a URL") as caught:
        Address.parse(text)
    assert caught.value.suggestion == suggestion


@pytest.mark.parametrize("host", ["a..b", "-a", "a b", "a/b", "300.1.1.1", "1.2.3", "x" * 300, "é"])
def test_a_host_that_cannot_be(host: str) -> None:
    with pytest.raises(ValueError, match=r"not the name of a host|neither an IPv4"):
        Address.parse(f"{host}:80")


@pytest.mark.parametrize("host", ["a", "a_b.svc", "a.example.", "xn--bcher-kva.example", "1and1"])
def test_a_host_that_can(host: str) -> None:
    assert Address.parse(f"{host}:80").host == host
