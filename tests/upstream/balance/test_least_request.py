from __future__ import annotations

from collections import Counter
from random import Random

from xproxy.model.address import Address
from xproxy.upstream.balance.least_request import LeastRequest, LeastRequestOptions
from xproxy.upstream.endpoint import Endpoint


def endpoints(*weights: int) -> list[Endpoint]:
    return [Endpoint(Address("127.0.0.1", 1 + i), weight) for i, weight in enumerate(weights)]


def test_the_busier_of_two_drawn_is_never_taken() -> None:
    choice = endpoints(1, 1, 1)
    choice[0].active = 9
    balancer = LeastRequest(Random(1)).picker(choice)
    picks = Counter(id(balancer.pick()) for _ in range(9000))
    # Drawn with replacement, it is taken only if it is drawn twice: one time in nine.
    assert abs(picks[id(choice[0])] - 1000) < 150


def test_equal_load_is_spread_evenly() -> None:
    choice = endpoints(1, 1, 1, 1)
    balancer = LeastRequest(Random(2)).picker(choice)
    picks = Counter(id(balancer.pick()) for _ in range(8000))
    assert all(abs(count - 2000) < 200 for count in picks.values())
    assert len(picks) == 4


def test_requests_in_flight_stay_close_together() -> None:
    choice = endpoints(*[1] * 50)
    balancer = LeastRequest(Random(3)).picker(choice)
    for _ in range(50 * 20):
        balancer.pick().active += 1
    # Two choices: the largest load is the mean and a little, not the mean and its square root.
    assert max(e.active for e in choice) <= 20 + 4


def test_with_unequal_weights_load_divides_the_weight() -> None:
    idle, busy = endpoints(2, 6)
    busy.active = 2
    balancer = LeastRequest(Random(4)).picker([idle, busy])
    picks = Counter(id(balancer.pick()) for _ in range(400))
    assert abs(picks[id(busy)] - 200) <= 2


def test_one_endpoint_is_enough() -> None:
    (only,) = endpoints(1)
    balancer = LeastRequest(Random(5)).picker([only])
    assert {id(balancer.pick()) for _ in range(5)} == {id(only)}


def test_choice_count_2_and_active_request_bias_1_may_be_others() -> None:
    assert (LeastRequestOptions().choice_count, LeastRequestOptions().active_request_bias) == (2, 1)
    some = endpoints(*[1] * 10)
    for one in some[1:]:
        one.active = 1
    picker = LeastRequest(Random(1), LeastRequestOptions(choice_count=50)).picker(some)
    assert sum(picker.pick() is some[0] for _ in range(1000)) > 950
    uneven = endpoints(1, 3)
    uneven[1].active = 1000
    picker = LeastRequest(Random(1), LeastRequestOptions(active_request_bias=0)).picker(uneven)
    assert sum(picker.pick() is uneven[1] for _ in range(1000)) == 750  # by weights only
