from __future__ import annotations

from xproxy.model.address import Address
from xproxy.upstream.endpoint import Endpoint


def test_a_new_endpoint_is_idle_and_trusted() -> None:
    endpoint = Endpoint(Address("127.0.0.1", 1))
    assert (endpoint.active, endpoint.connections, endpoint.total) == (0, 0, 0)
    assert endpoint.failing_until == 0.0


def test_two_endpoints_of_one_address_are_two() -> None:
    # An address may stand in a cluster twice: each has its own pool and its own failures.
    one, other = (Endpoint(Address("127.0.0.1", 1)) for _ in range(2))
    assert one != other
    assert len({one, other}) == 2
