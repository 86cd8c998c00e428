from __future__ import annotations

import pytest

from tests.routing.test_router import CALL, Bench, bench, web
from xproxy.config.schema import RouteConfig
from xproxy.model.message import RequestHead
from xproxy.routing.priority import HIGH

__all__ = ["bench"]


@pytest.mark.parametrize("head", [web(), CALL, RequestHead(service="s", method="m")])
async def test_requests_of_a_route_of_high_priority_go_first(
    bench: Bench,
    head: RequestHead,
) -> None:
    for config, priority in (
        (RouteConfig(cluster="a", priority="high"), HIGH),
        (RouteConfig(cluster="a"), 0),
    ):
        request = bench.request(head)
        await bench.router(config)(request)
        assert request.record.priority == priority
