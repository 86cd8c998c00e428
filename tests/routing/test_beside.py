from __future__ import annotations

import trio

from xproxy.config.routing import MirrorConfig
from xproxy.config.schema import RouteConfig
from xproxy.routing.beside import Beside
from xproxy.routing.table import RouteTable


async def test_nothing_is_started_before_it_runs_nor_after() -> None:
    beside = Beside("main")
    assert not beside.start_soon(trio.sleep_forever)
    async with trio.open_nursery() as nursery:
        await nursery.start(beside.run)
        assert beside.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()
    assert not beside.start_soon(trio.sleep_forever)


def test_a_table_has_one_if_its_routes_want_it() -> None:
    plain = RouteConfig(cluster="a")
    assert RouteTable.build("main", [plain]).beside == ()
    wanting = [
        RouteConfig(cluster="a", mirrors=(MirrorConfig(cluster="b"),)),
        RouteConfig(cluster="a", fallback_cluster="b"),
        plain,
    ]
    (beside,) = RouteTable.build("main", wanting).beside
    assert beside.statistics() == ("routes", "main", beside.stats)
