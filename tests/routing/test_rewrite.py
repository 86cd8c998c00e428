from __future__ import annotations

import attrs
import pytest

from tests.live import read_head, running, upstream
from tests.live import web as config
from tests.routing.test_router import CALL, Bench, bench, web
from xproxy.config.routing import RewriteConfig
from xproxy.config.schema import MatchConfig, PathMatch, RouteConfig
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, Rpc, Target, recurring

__all__ = ["bench"]


def prefixed(match: PathMatch, new: str) -> RouteConfig:
    return RouteConfig(
        match=MatchConfig(path=match), rewrite=RewriteConfig(prefix=new), cluster="a"
    )


@pytest.mark.parametrize(
    ("match", "new", "path", "wanted"),
    [
        (PathMatch(prefix="/api"), "/v2", "/api/x?y=/api", "/v2/x?y=/api"),
        (PathMatch(prefix="/api"), "/v2", "/apix", "/v2x"),
        (PathMatch(prefix="/api/"), "/", "/api/x", "/x"),
        (PathMatch(segment_prefix="/api"), "/", "/api/x", "/x"),
        (PathMatch(segment_prefix="/api"), "/", "/api?q", "/?q"),
        (PathMatch(segment_prefix="/api/"), "/v2/", "/api", "/v2"),
        (PathMatch(segment_prefix="/"), "/v2", "/x", "/v2/x"),
    ],
)
async def test_the_prefix_that_matched_is_replaced(
    bench: Bench, match: PathMatch, new: str, path: str, wanted: str
) -> None:
    await bench.router(prefixed(match, new))(bench.request(web(path=path)))
    assert bench.a.requests[0].head.path == wanted


async def test_repeated_slashes_are_no_way_round(bench: Bench) -> None:
    target = Target(path="//api//x", matched=("//api//x", "/api/x"))
    request = bench.request(attrs.evolve(web(), extra=target))
    await bench.router(prefixed(PathMatch(prefix="/api"), "/v2"))(request)
    assert request.head.path == "/v2/x"


async def test_a_call_within_a_web_request_becomes_another_one(bench: Bench) -> None:
    request = bench.request(CALL)
    await bench.router(prefixed(PathMatch(prefix="/lab.Echo/"), "/lab.Other/"))(request)
    assert request.head.rpc == Rpc("grpc", "lab.Other", "Say")
    assert request.head.path == "/lab.Other/Say"


async def test_what_recurs_does_so_after_it(bench: Bench) -> None:
    router = bench.router(RouteConfig(rewrite=RewriteConfig(host="b.test:81"), cluster="a"))
    head = recurring(web())
    for _ in range(2):
        await router(bench.request(head))
    one, two = (request.head for request in bench.a.requests)
    assert one is two
    assert one.recurs
    assert one.service == "b.test:81"


@pytest.mark.parametrize(
    ("said", "host"),
    [
        ("b.test:81", "b.test:81"),
        ("[::1]:80", "[::1]:80"),
        ("a b", "a:80"),
        ("a/b", "a:80"),
        (None, "a:80"),
    ],
)
async def test_a_header_says_the_host(bench: Bench, said: str | None, host: str) -> None:
    router = bench.router(RouteConfig(rewrite=RewriteConfig(host_header="x-host"), cluster="a"))
    headers = Headers((("x-host", said),) if said is not None else ())
    request = bench.request(web().with_headers(headers))
    await router(request)
    assert request.head.service == host


async def test_other_calls_stay_as_they_are(bench: Bench) -> None:
    head = RequestHead(service="s", method="m")
    request = bench.request(head)
    await bench.router(RouteConfig(rewrite=RewriteConfig(host="b"), cluster="a"))(request)
    assert request.head is head


async def test_on_real_sockets() -> None:
    async with upstream() as up:
        text = config(up.port).replace(
            "    - cluster: web\n",
            "    - cluster: web\n      match: {path: {prefix: /api/}}\n"
            "      rewrite: {prefix: /, host: b.test}\n",
        )
        async with running(text) as live:
            client = await live.connect()
            await client.send_all(b"GET /api/x?y HTTP/1.1\r\nhost: a\r\n\r\n")
            head = await read_head(await up.accept())
            assert head.startswith(b"GET /x?y HTTP/1.1\r\n")
            assert b"host: b.test\r\n" in head.lower()


@pytest.mark.parametrize(
    "fields",
    [
        {"prefix": "x"},
        {"prefix": "/x?y"},
        {"host": "a b"},
        {"host": ""},
        {"host": "a", "host_header": "b"},
    ],
)
def test_what_cannot_be_written_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        RewriteConfig(**fields)
