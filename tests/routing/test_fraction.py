from __future__ import annotations

from collections import Counter

import pytest

from tests.routing.test_table import chosen, connection, route, web
from xproxy.config.routing import MILLION, FractionConfig
from xproxy.model.message import recurring
from xproxy.routing.fraction import Draw, fraction_test
from xproxy.routing.route import build_route
from xproxy.routing.table import RouteTable


@pytest.mark.parametrize(
    ("percent", "holds", "fails"),
    [(5, 49_999, 50_000), (0.0001, 0, 1), (100, 999_999, None), (0, None, 0)],
)
def test_percent_is_of_a_million(percent: float, holds: int | None, fails: int | None) -> None:
    test = fraction_test(FractionConfig(percent=percent))[1]
    if holds is not None:
        assert test(str(holds))
    if fails is not None:
        assert not test(str(fails))


@pytest.mark.parametrize("percent", [-0.1, 100.1])
def test_percent_is_a_share(percent: float) -> None:
    with pytest.raises(ValueError):
        FractionConfig(percent=percent)


def test_one_value_is_drawn_for_a_request_whatever_routes_ask() -> None:
    values = iter([49_999, 50_000, 149_999, 150_000])
    asked: list[int] = []

    def drawn(below: int) -> int:
        asked.append(below)
        return next(values)

    draw = Draw(drawn)
    configs = [
        route("five", fraction=FractionConfig(percent=5)),
        route("fifteen", fraction=FractionConfig(percent=15)),
        route("rest"),
    ]
    table = RouteTable("main", [build_route(one, "", draw) for one in configs])
    head = recurring(web())  # which is not remembered
    found = [chosen(table, head, connection()) for _ in range(4)]
    assert found == ["five", "fifteen", "fifteen", "rest"]
    assert asked == [MILLION] * 4


def test_a_table_shares_what_it_draws() -> None:
    table = RouteTable.build(
        "main", [route(str(n), fraction=FractionConfig(percent=50 * n)) for n in (1, 2)]
    )
    found = Counter(chosen(table, web(), connection()) for _ in range(1000))
    assert set(found) == {"1", "2"}  # with draws of their own it would be the same, but None never
    assert len({c.draw for one in table.routes for c in one.conditions}) == 1
    assert "fraction: found '" in str(
        RouteTable.build("main", [route("none", fraction=FractionConfig(percent=0))]).explain(
            web(), connection()
        )
    )
