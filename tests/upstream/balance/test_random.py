from __future__ import annotations

from collections import Counter
from random import Random as Source

from tests.upstream.balance.keys import chi_square, critical
from xproxy.model.address import Address
from xproxy.upstream.balance.random import Random
from xproxy.upstream.endpoint import Endpoint


class Fixed(Source):
    """Draws what it is told."""

    drawn = 0.0

    def random(self) -> float:
        return self.drawn


def endpoints(*weights: int) -> list[Endpoint]:
    return [Endpoint(Address("127.0.0.1", 1 + i), weight) for i, weight in enumerate(weights)]


def test_ranges_are_half_open_in_the_order_of_the_configuration() -> None:
    first, second = choice = endpoints(10, 90)
    source = Fixed()
    balancer = Random(source).picker(choice)
    for drawn, wanted in ((0.0, first), (0.0999, first), (0.1, second), (0.9999999, second)):
        source.drawn = drawn
        assert balancer.pick() is wanted, drawn


def test_draws_follow_the_weights() -> None:
    choice = endpoints(1, 3)
    balancer = Random(Source(6)).picker(choice)
    picks = Counter(balancer.pick().weight for _ in range(8000))
    assert abs(picks[3] - 6000) < 200


def test_draws_are_as_weights_say() -> None:
    some = endpoints(1, 2, 5, 40)
    picker = Random(Source(7)).picker(some)
    assert chi_square([picker.pick() for _ in range(20_000)], some) < critical(some)
