from __future__ import annotations

import pytest
import trio

from tests.live import answering, running, upstream
from tests.routing.test_router import CALL, Bench, bench, web
from tests.upstream.test_keyed_requests import call, calls, get
from xproxy.config.schema import RouteConfig
from xproxy.model.errors import ClusterNotFound
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead
from xproxy.routing.instead import given_value
from xproxy.upstream.endpoint import Unfit

__all__ = ["bench"]

RPC = RequestHead(service="s", method="m")


@pytest.mark.parametrize("head", [web(), CALL, RPC])
async def test_a_header_names_the_cluster(bench: Bench, head: RequestHead) -> None:
    router = bench.router(RouteConfig(cluster_header="x-to"))
    request = bench.request(head.with_headers(Headers((("X-To", "b"),))))
    await router(request)
    assert bench.b.requests == [request]
    assert request.record.cluster == "b"
    with pytest.raises(ClusterNotFound, match="no header 'x-to' names"):
        await router(bench.request(head))
    with pytest.raises(ClusterNotFound, match="names cluster 'c'"):
        await router(bench.request(head.with_headers(Headers((("x-to", "c"),)))))


async def test_a_header_chooses_among_weights(bench: Bench) -> None:
    route = RouteConfig(cluster={"a": 10, "b": 90}, weight_header="x-user")
    router = bench.router(route, values=iter([5]))
    found = []
    for value in ("9", "10", "110", "nonsense"):  # the last one goes by chance
        request = bench.request(RPC.with_headers(Headers((("x-user", value),))))
        await router(request)
        found.append(request.record.cluster)
    assert found == ["a", "b", "b", "a"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        (str(2**64 - 1), 2**64 - 1),
        (str(2**64), None),
        ("9" * 99, None),
        ("-1", None),
        ("\u0663", None),
    ],
)
def test_the_number_of_a_header_has_64_bits(text: str, value: int | None) -> None:
    assert given_value(RPC.with_headers(Headers((("n", text),))), "n") == value


async def test_without_endpoints_the_fallback_is_asked_in_every_protocol() -> None:
    async with upstream() as one, upstream() as two, trio.open_nursery() as nursery:
        text = f"""
listeners: [{{name: edge, address: "127.0.0.1:0", routes: main}}]
routes:
  main:
    - match: {{protocol: http1}}
      cluster: web
      fallback_cluster: pages
    - cluster: web
      fallback_cluster: cart
clusters:
  web: {{endpoints: ["127.0.0.1:1"], balancing: {{panic_threshold: 0}}}}
  pages: {{endpoints: ["127.0.0.1:{one.port}"]}}
  cart: {{endpoints: ["127.0.0.1:{two.port}"]}}
"""
        async with running(text) as live:
            nursery.start_soon(one.serve, answering(b"1"))
            nursery.start_soon(two.serve, calls(b"2"))
            live.cluster().endpoints[0].unfit = Unfit.FAILED_CHECK
            live.cluster()._choice.marked()
            assert (await get(await live.connect()))[1] == b"1"
            assert await call(await live.connect(), 1, "t") == b"2"
            assert live.runtime.snapshot is not None
            (beside,) = live.runtime.snapshot.tables["main"].beside
            assert beside.stats.fallback_total == {"main[0]": 1, "main[1]": 1}
        nursery.cancel_scope.cancel()
