from __future__ import annotations

from tests.routing.conftest import NotedLimits
from xproxy.config.schema import RouteConfig
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.routing.metadata_match import MetadataMatch
from xproxy.routing.route import build_route
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import ConnectionFacts, Request, Response, local_response


async def test_a_route_says_which_subset_its_requests_want(facts: ConnectionFacts) -> None:
    route = build_route(RouteConfig(cluster="c", metadata_match={"version": "v2"}), "r")
    (steering,) = route.steering
    assert isinstance(steering, MetadataMatch)

    async def answer(request: Request) -> Response:
        return local_response(ResponseHead(status=Status.OK))

    head = RequestHead(service="a", method="b")
    request = Request(head, BytesBody(), facts, NotedLimits(), 0.0)  # type: ignore[arg-type]  # nothing more is asked
    assert request.record.subset == {}
    await steering(request, answer)
    assert request.record.subset == {"version": "v2"}
    assert request.fork().record.subset == {"version": "v2"}


def test_a_route_that_says_nothing_has_no_filter_for_it() -> None:
    assert build_route(RouteConfig(cluster="c"), "r").steering == ()
