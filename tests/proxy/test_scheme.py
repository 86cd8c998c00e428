from __future__ import annotations

import attrs

from tests.upstream.test_lane import request as plain_request
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.proxy.scheme import Secured
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response


@attrs.define
class Seen:
    heads: list[RequestHead] = attrs.field(factory=list)

    async def __call__(self, request: Request) -> Response:
        self.heads.append(request.head)
        return Response(ResponseHead(status=Status.OK), BytesBody())


def request(head: RequestHead, *, tls: bool = True) -> Request:
    found = plain_request()
    found.head = head
    found.connection.tls = tls
    return found


def web(scheme: str = "http") -> RequestHead:
    return RequestHead(service="a", method="GET", extra=Target(path="/x", scheme=scheme))


async def test_what_came_over_tls_is_addressed_to_https() -> None:
    seen = Seen()
    secured = Secured(seen)
    head = web()
    await secured(request(head))
    await secured(request(head))
    first, second = seen.heads
    assert first.extra == Target(path="/x", scheme="https")
    assert attrs.evolve(first, extra=head.extra) == head, "nothing else has changed"
    assert second is first, "a head that recurs stays one object"


async def test_what_did_not_or_says_so_itself_or_is_no_web_request_stays_as_it_is() -> None:
    seen = Seen()
    secured = Secured(seen)
    rpc = RequestHead(service="com.example.Hello", method="say")
    for found in (request(web(), tls=False), request(web("https")), request(rpc)):
        before = found.head
        await secured(found)
        assert seen.heads[-1] is before
