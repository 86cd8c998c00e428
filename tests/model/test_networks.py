from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.model.networks import Networks, parse_ip


def test_an_address_is_inside_its_block_only() -> None:
    networks = Networks(["10.0.0.0/8", "::1/128"])
    assert "10.255.0.1" in networks
    assert "11.0.0.1" not in networks
    assert "::1" in networks
    assert "::2" not in networks


def test_a_mapped_address_counts_as_ipv4() -> None:
    assert "::ffff:10.1.2.3" in Networks(["10.0.0.0/8"])


@pytest.mark.parametrize("text", ["", "reviews.local", "10.0.0", "300.0.0.1"])
def test_what_is_no_ip_address_is_in_no_network(text: str) -> None:
    assert parse_ip(text) is None
    assert text not in Networks(["0.0.0.0/0", "::/0"])


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "x", ""])
def test_a_bad_block_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not a network such as"):
        Networks([text])


@given(st.ip_addresses())
def test_every_address_is_in_a_block_of_everything(address: object) -> None:
    assert str(address) in Networks(["0.0.0.0/0", "::/0"])
