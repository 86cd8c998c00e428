from __future__ import annotations

import re

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.http2_peer import Http2Peer
from tests.live import answering, running, upstream
from tests.live import web as web_text
from tests.upstream.test_connector import request as plain_request
from xproxy.config.schema import ListenerConfig, MatchConfig, PathMatch, RouteConfig, StringMatch
from xproxy.model.address import Address
from xproxy.model.errors import BadTarget, Unsupported
from xproxy.model.message import RequestHead, ResponseHead, Rpc, Target, recurring
from xproxy.model.status import Status
from xproxy.proxy.addressing import Addressed, PathRules, redirect, reject
from xproxy.routing.table import RouteTable
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing import Party

DEFAULT = PathRules()


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


def web(scheme: str = "http", path: str = "/x", rpc: Rpc | None = None) -> RequestHead:
    return RequestHead(service="a", method="GET", extra=Target(path=path, scheme=scheme, rpc=rpc))


def addressed(seen: Seen, rules: PathRules = DEFAULT) -> Addressed:
    return Addressed(seen, rules, reject, redirect)


async def sent(path: str, rules: PathRules = DEFAULT, rpc: Rpc | None = None) -> Target:
    """Return what becomes of a path."""
    seen = Seen()
    await addressed(seen, rules)(request(web(path=path, rpc=rpc), tls=False))
    target = seen.heads[0].extra
    assert isinstance(target, Target)
    return target


async def test_what_came_over_tls_is_addressed_to_https() -> None:
    seen = Seen()
    secured = addressed(seen)
    head = recurring(web())
    await secured(request(head))
    await secured(request(head))
    first, second = seen.heads
    assert first.extra == Target(path="/x", scheme="https")
    assert attrs.evolve(first, extra=head.extra) == head, "nothing else has changed"
    assert second is first, "a head that recurs stays one object"
    assert first.recurs


async def test_what_did_not_or_says_so_itself_or_is_no_web_request_stays_as_it_is() -> None:
    seen = Seen()
    secured = addressed(seen)
    rpc = RequestHead(service="com.example.Hello", method="say")
    for found in (
        request(web(), tls=False),
        request(web("https")),
        request(rpc),
        request(web("https", path="*")),
        request(web("https", path="")),
        request(web(path="/a%20b?x=/../y//z"), tls=False),
    ):
        before = found.head
        await secured(found)
        assert seen.heads[-1] is before


@pytest.mark.parametrize(
    ("path", "on", "matched"),
    [
        ("/./admin?x=/../%61//", "/admin?x=/../%61//", "/admin"),
        ("/x/../admin", "/admin", "/admin"),
        ("/%61dmin", "/admin", "/admin"),
        ("//admin?q", "//admin?q", "/admin"),
        ("/a%2fb", "/a%2fb", "/a%2Fb"),
        ("/%2e%2e//admin", "//admin", "/admin"),
    ],
)
async def test_paths_by_default(path: str, on: str, matched: str) -> None:
    target = await sent(path)
    assert (target.path, target.match_path) == (on, matched)


@pytest.mark.parametrize(
    ("rules", "path", "on", "matched"),
    [
        (
            PathRules(normalise=False, merge_slashes="match"),
            "/x/..//%61",
            "/x/..//%61",
            "/x/../%61",
        ),
        (PathRules(merge_slashes=True), "//x///y", "/x/y", "/x/y"),
        (PathRules(merge_slashes=False), "//x", "//x", "//x"),
        (PathRules(escaped_slashes="unescape_and_forward"), "/x%2f..%5Cadmin", "/admin", "/admin"),
    ],
)
async def test_paths_as_told(rules: PathRules, path: str, on: str, matched: str) -> None:
    target = await sent(path, rules)
    assert (target.path, target.match_path) == (on, matched)


def test_the_rules_are_the_listeners() -> None:
    config = ListenerConfig(name="l", address=Address("127.0.0.1", 1), routes="main")
    assert PathRules.of(config) == DEFAULT
    off = attrs.evolve(config, normalize_path=False, merge_slashes=False)
    assert PathRules.of(off).idle
    assert not DEFAULT.idle


async def test_an_escaped_slash_is_refused_or_redirected_where_the_listener_says_so() -> None:
    with pytest.raises(BadTarget):
        await sent("/a%2Fb", PathRules(escaped_slashes="reject_request"))
    rules = PathRules(escaped_slashes="unescape_and_redirect")
    found = request(web(path="/a%2F..%5cadmin?x=%2F"), tls=False)
    response = await addressed(Seen(), rules)(found)
    assert response.head.native_status == 307
    assert response.head.headers.get("location") == "/admin?x=%2F"
    found = request(web(path="/%2F%2Fevil.test"), tls=False)
    response = await addressed(Seen(), rules)(found)
    assert response.head.headers.get("location") == "/evil.test", "never another host"
    with pytest.raises(Unsupported):
        await sent("/p.S%2FM", rules, Rpc("grpc", "p.S%2FM", ""))


async def test_a_filter_that_gives_another_path_has_that_matched() -> None:
    target = attrs.evolve(await sent("//x"), path="/y?z")
    assert target.match_path == "/y"


async def test_a_call_is_the_one_of_the_path_that_is_matched() -> None:
    target = await sent("/x/..//p.Secret/Get", rpc=Rpc("grpc", "x/..//p.Secret", "Get"))
    assert target.rpc == Rpc("grpc", "p.Secret", "Get")


# -- every spelling meets the rule ---------------------------------------------------------------------------------

DENIED = RouteTable.build(
    "main",
    [
        RouteConfig(
            name="deny", match=MatchConfig(path=PathMatch(segment_prefix="/admin")), cluster="no"
        ),
        RouteConfig(name="deny host", hosts=("internal.example",), cluster="no"),
        RouteConfig(
            name="deny call", match=MatchConfig(service=StringMatch(exact="p.Secret")), cluster="no"
        ),
        RouteConfig(name="all", cluster="yes"),
    ],
)


def _escaped(char: str) -> st.SearchStrategy[str]:
    return st.sampled_from([char, f"%{ord(char):02X}", f"%{ord(char):02x}"])


def spelled(text: str) -> st.SearchStrategy[str]:
    """Return every spelling of a word."""
    return st.tuples(*(_escaped(char) for char in text)).map("".join)


DETOURS = st.lists(
    st.sampled_from(["/.", "/", "/x/..", "/%2e", "/y/%2E.", "/..", "\\", "/x\\..", "/z//../.."]),
    max_size=5,
).map("".join)


@given(DETOURS, spelled("admin"), st.sampled_from(["", "/", "/x", "?y", "//", "\\x"]))
async def test_no_spelling_of_a_path_passes_a_rule(before: str, word: str, after: str) -> None:
    seen = Seen()
    path = f"{before}/{word}{after}"
    path = path if path.startswith("/") else "/" + path
    found = request(web(path=path), tls=False)
    await addressed(seen)(found)
    route = DENIED.choose(seen.heads[0], found.connection)
    assert route is not None
    assert route.name == "deny", seen.heads[0]


@given(
    spelled("internal.example"),
    st.booleans(),
    st.sampled_from(["", ".", ":", ":80", ".:080", ":8080", ".:"]),
    st.booleans(),
)
async def test_no_spelling_of_a_host_passes_a_rule(
    host: str, upper: bool, end: str, tls: bool
) -> None:
    head = attrs.evolve(web(), service=(host.upper() if upper else host) + end)
    found = request(head, tls=tls)
    seen = Seen()
    await addressed(seen)(found)
    route = DENIED.choose(seen.heads[0], found.connection)
    assert route is not None
    assert route.name == "deny host"


# ---- on real sockets, in both versions

RULES = """\
    - {match: {path: {segment_prefix: /admin}}, filters: [{name: direct_response, status: permission-denied}]}
    - {hosts: [internal.example], filters: [{name: direct_response, status: permission-denied}]}
    - cluster: web
"""
PATHS = [
    "//admin",
    "/./admin",
    "/x/../admin",
    "/%61dmin",
    "/%2e%2e/admin/x",
    "/x\\..\\admin?q=/../b",
]


@pytest.mark.parametrize("path", PATHS)
async def test_a_detour_is_refused_and_reaches_nobody(path: str) -> None:
    async with upstream() as up, running(ruled(up.port)) as live:
        client = await live.client()
        await client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await client.expect(b"HTTP/1.1 403 ")
        for authority in ("internal.example.", "INTERNAL.example:80"):
            peer = Http2Peer(await live.connect(), client=True)
            asked = await peer.ask(path)
            assert (await peer.whole(asked))[":status"] == "403"
            client = await live.client()
            await client.send(f"GET /x HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
            await client.expect(b"HTTP/1.1 403 ")
        assert up.accepted == 0


async def test_what_is_sent_on_is_normalised_but_for_its_slashes() -> None:
    async with upstream() as up, running(ruled(up.port)) as live:
        client = await live.client()
        await client.send(b"GET //x/../%61//b%2fc?q=/../%61 HTTP/1.1\r\nHost: A.:80\r\n\r\n")
        server = Party("upstream", await up.accept())
        await server.expect(b"GET //a//b%2fc?q=/../%61 HTTP/1.1\r\nHost: A.:80\r\n\r\n")


@pytest.mark.parametrize(
    ("action", "code"), [("reject_request", b"400"), ("unescape_and_redirect", b"307")]
)
async def test_escaped_slashes_have_a_line_in_the_log(
    action: str, code: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    listener = f"    path_with_escaped_slashes_action: {action}\n    filters: [access_log]\n"
    async with upstream() as up, running(web_text(up.port, listener=listener)) as live:
        client = await live.client()
        await client.send(b"GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.expect(b"HTTP/1.1 " + code)
        assert up.accepted == 0
    said = capfd.readouterr()
    assert f" {code.decode()} " in said.out + said.err


def ruled(port: int) -> str:
    return web_text(port).replace("    - cluster: web\n", RULES)


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("a.test", 200),
        ("a.test:", 200),
        ("a.test:80", 200),
        ("A.Test.:080", 200),
        ("a.test:81", 404),
        ("b.test:80", 404),
    ],
)
async def test_a_route_of_the_default_port_is_met_by_every_spelling_of_it(
    host: str, code: int
) -> None:
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering(b"ok"))
        text = web_text(up.port).replace("- cluster", "- {hosts: ['a.test:80'], cluster")
        async with running(text.replace("cluster: web\n", "cluster: web}\n")) as live:
            client = await live.client()
            await client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await client.expect(re.compile(b"HTTP/1.1 %d " % code))
        nursery.cancel_scope.cancel()
