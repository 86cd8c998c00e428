from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from xproxy.filters.body_limit import BodyLimit
from xproxy.model.errors import BodyTooLarge, StreamError
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import Size
from xproxy.model.message import SWITCHING, Target
from xproxy.stream.body import BytesBody

Kit = Any  # Any: conftest.py cannot be imported

LIMIT = BodyLimit(request=Size(4), response=Size(8))
END = Trailers(1, Headers())


async def pieces(body: Any) -> list[object]:
    found: list[object] = []
    while True:
        try:
            found.append(await body.receive())
        except trio.EndOfChannel:
            return found


async def test_whole_bodies_within_the_limit_stay_the_same_objects(kit: Kit) -> None:
    body = BytesBody(b"1234")
    response = kit.response(body=BytesBody(b"12345678"))
    upstream = kit.upstream(response)
    answer = await LIMIT(kit.web(body=body), upstream)
    assert upstream.bodies == [body]
    assert answer.body is response.body


async def test_a_whole_request_above_it_goes_nowhere(kit: Kit) -> None:
    upstream = kit.upstream()
    with pytest.raises(BodyTooLarge, match="request body is 5 bytes, limit 4"):
        await LIMIT(kit.web(body=BytesBody(b"12345")), upstream)
    assert upstream.seen == []


async def test_a_declared_length_above_it_is_enough(kit: Kit) -> None:
    upstream = kit.upstream()
    request = kit.web("/", ("Content-Length", "5"), body=kit.body(b"1"))
    with pytest.raises(BodyTooLarge):
        await LIMIT(request, upstream)
    assert upstream.seen == []


async def test_a_streamed_request_breaks_off_where_it_grows_too_long(kit: Kit) -> None:
    upstream = kit.upstream()
    inner = kit.body(b"12", b"34", b"5", b"6")
    await LIMIT(kit.web(body=inner), upstream)
    body = upstream.bodies[0]
    assert [await body.receive(), await body.receive()] == [b"12", b"34"]
    for _ in range(2):
        with pytest.raises(BodyTooLarge, match="limit 4"):
            await body.receive()
    await body.aclose()
    assert inner.closed


async def test_a_streamed_request_within_it_passes_with_its_trailers(kit: Kit) -> None:
    upstream = kit.upstream()
    await LIMIT(kit.web("/", ("content-length", "4"), body=kit.body(b"12", b"34", END)), upstream)
    assert await pieces(upstream.bodies[0]) == [b"12", b"34", END]


async def test_a_response_above_it_is_closed_and_not_the_clients_fault(kit: Kit) -> None:
    for response in (
        kit.response(body=BytesBody(b"123456789")),
        kit.response(200, ("content-length", "9"), body=kit.body(b"1")),
    ):
        with pytest.raises(StreamError, match="response body is 9 bytes, limit 8") as caught:
            await LIMIT(kit.web(body=BytesBody()), kit.upstream(response))
        assert not isinstance(caught.value, BodyTooLarge)
        assert response.lease is None


async def test_a_streamed_response_breaks_off(kit: Kit) -> None:
    response = kit.response(body=kit.body(b"1" * 8, b"2"))
    answer = await LIMIT(kit.web(body=BytesBody()), kit.upstream(response))
    assert await answer.body.receive() == b"1" * 8
    with pytest.raises(StreamError, match="limit 8"):
        await answer.body.receive()


async def test_the_length_in_an_answer_to_head_is_of_a_body_that_is_not_there(kit: Kit) -> None:
    response = kit.response(200, ("content-length", "99"), body=kit.body())
    answer = await LIMIT(kit.web(method="HEAD", body=BytesBody()), kit.upstream(response))
    assert await pieces(answer.body) == []


async def test_a_tunnel_has_no_body_to_limit(kit: Kit) -> None:
    response = kit.response(body=kit.body(b"x" * 100))
    response.head = attrs.evolve(response.head, native_status=SWITCHING)
    upstream = kit.upstream(response)
    inner = kit.body(b"y" * 100)
    request = kit.web(body=inner)
    request.head = attrs.evolve(request.head, extra=Target(path="/", upgrade="x"))
    answer = await LIMIT(request, upstream)
    assert upstream.bodies == [inner]
    assert answer.body is response.body


def test_a_filter_without_a_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a limit"):
        BodyLimit()
