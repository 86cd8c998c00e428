from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.model.address import Address


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
