from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from xproxy.model.address import Address
from xproxy.upstream.balance.draws import draw_another
from xproxy.upstream.endpoint import Endpoint

CHOICE = [Endpoint(Address("127.0.0.1", 1 + i), weight) for i, weight in enumerate((1, 3, 1000))]


def draws(avoid: list[Endpoint], count: int) -> Counter[int]:
    random = Random(5)
    weights = [one.weight for one in CHOICE]
    return Counter(
        draw_another(lambda: random.choices(CHOICE, weights)[0], CHOICE, avoid, random).address.port
        for _ in range(count)
    )


def test_what_is_avoided_is_not_drawn_however_heavy_it_is() -> None:
    found = draws([CHOICE[2]], 4000)
    assert set(found) == {1, 2}
    assert found[1] == pytest.approx(1000, abs=150)


def test_it_is_drawn_where_there_is_no_other() -> None:
    assert draws(CHOICE, 100)[3] > 90
