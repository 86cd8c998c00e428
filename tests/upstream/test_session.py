from __future__ import annotations

import pytest

from tests.upstream.balance.test_api import endpoints
from xproxy.model.address import Address
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.session import by_token, token_of


@pytest.mark.parametrize(
    "address", [Address("127.0.0.1", 80), Address("", path="/run/a\udcff.sock"), Address("::1", 1)]
)
def test_a_token_says_nothing_of_the_address(address: Address) -> None:
    token = token_of(address)
    assert len(token) == 16
    assert token == token_of(address)
    assert int(token, 16) >= 0


def test_tokens_find_endpoints() -> None:
    some = endpoints([1] * 50)
    found = by_token([*some, Endpoint(some[0].address)])
    assert [found[token_of(one.address)] for one in some] == some
