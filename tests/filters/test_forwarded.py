from __future__ import annotations

import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.upstream.test_connector import request as plain_request
from xproxy.filters.forwarded import Forwarded
from xproxy.model.address import Address
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead, Target, recurring
from xproxy.model.status import Status
from xproxy.stream.exchange import Request, Response, local_response

Kit = Any  # Any: conftest.py cannot be imported

CLAIMS = (
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "bank"),
    ("Forwarded", "for=203.0.113.9"),
    ("Via", "1.0 fred"),
)


async def sent(kit: Kit, filter_: Forwarded, request: Any) -> dict[str, str]:
    upstream = kit.upstream()
    await filter_(request, upstream)
    headers = upstream.seen[0].headers
    assert all(len(headers.get_all(name)) == 1 for name, _ in headers)
    return {name.lower(): value for name, value in headers}


async def test_who_the_client_was_is_said(kit: Kit) -> None:
    assert await sent(kit, Forwarded(), kit.web()) == {
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-proto": "http",
        "via": "1.1 xproxy",
    }
    assert await sent(kit, Forwarded(via="", host=True), kit.web(tls=True)) == {
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "reviews:9080",
    }


async def test_what_a_stranger_claims_is_dropped(kit: Kit) -> None:
    assert await sent(kit, Forwarded(), kit.web("/", *CLAIMS)) == {
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-proto": "http",
        "via": "1.0 fred, 1.1 xproxy",
    }


@pytest.mark.parametrize("peer", [Address("192.0.2.7", 1), Address("", 0, "/run/x.sock")])
async def test_what_a_trusted_proxy_says_is_added_to(kit: Kit, peer: Address) -> None:
    request = kit.web("/", *CLAIMS, peer=peer)
    found = await sent(kit, Forwarded(trusted=("192.0.2.0/24",), host=True), request)
    assert found == {
        "x-forwarded-for": ", ".join(filter(None, ["203.0.113.9", peer.host])),
        "x-forwarded-proto": "https",
        "x-forwarded-host": "bank",
        "forwarded": "for=203.0.113.9",
        "via": "1.0 fred, 1.1 xproxy",
    }


async def test_several_lines_become_one(kit: Kit) -> None:
    lines = (("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2"))
    found = await sent(kit, Forwarded(trusted=("0.0.0.0/0",)), kit.web("/", *lines))
    assert found["x-forwarded-for"] == "1.1.1.1, 2.2.2.2, 192.0.2.7"


async def test_rpc_requests_stay_as_they_are(kit: Kit) -> None:
    request, upstream = kit.rpc(), kit.upstream()
    head = request.head
    await Forwarded()(request, upstream)
    assert upstream.seen[0] is head


async def test_one_clients_head_becomes_the_same_head_each_time(kit: Kit) -> None:
    filter_, upstream = Forwarded(), kit.upstream()
    head = recurring(kit.web().head)
    for peer in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        request = kit.web(peer=Address(peer, 1))
        request.head = head
        await filter_(request, upstream)
    first, second, third = upstream.seen
    assert first is third
    assert [h.headers["x-forwarded-for"] for h in (first, second)] == ["192.0.2.1", "192.0.2.2"]


async def test_the_memory_is_bounded(kit: Kit) -> None:
    filter_ = Forwarded()
    request = kit.web()
    gone = weakref.ref(request.head)
    await sent(kit, filter_, request)
    del request
    assert gone() is None, "a head that does not recur is not held"
    heads: list[weakref.ref[RequestHead]] = []
    for _ in range(1100):
        request = kit.web()
        head = request.head = recurring(request.head)
        heads.append(weakref.ref(head))
        await sent(kit, filter_, request)
    del request, head
    assert 0 < sum(head() is not None for head in heads) <= 512


@pytest.mark.parametrize("added", ["x-forwarded-port", "x-request-id"])
async def test_what_filters_add_to_a_head_that_recurs_is_looked_at(kit: Kit, added: str) -> None:
    filter_, upstream = Forwarded(), kit.upstream()
    head = recurring(kit.web().head)
    for _ in range(2):
        request = kit.web()
        request.head = head.adding(((added, "1"),))
        await filter_(request, upstream)
    expected = None if added == "x-forwarded-port" else "1"
    assert [h.headers.get(added) for h in upstream.seen] == [expected] * 2


@pytest.mark.parametrize("fields", [{"trusted": ("10.0.0.1/8",)}, {"via": "a b"}, {"via": "a,b"}])
def test_bad_configuration_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a network|cannot stand in Via"):
        Forwarded(**fields)


NAMES = [
    "x-real-ip",
    "x-forwarded-client-cert",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-prefix",
    "x-forwarded-user",
    "true-client-ip",
    "cf-connecting-ip",
    "x-client-ip",
    "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info",
    "x-forwarded-anything",
    "x-envoy-original-dst-host",
    "x-envoy-upstream-rq-timeout-ms",
    "wl-proxy-client-ip",
    "x-goog-authenticated-user-email",
    "x-envoy-external-address",
    "x-original-url",
    "x-rewrite-url",
    "client-cert",
    "x-ssl-client-verify",
    "remote-user",
]


@given(st.sampled_from(NAMES), st.data())
async def test_no_spelling_of_a_claim_passes_from_a_stranger(
    name: str, data: st.DataObject
) -> None:
    """A dash and an underscore are one to CGI and its heirs, and so is the case of a letter."""
    spelled = "".join(
        data.draw(st.sampled_from("-_" if char == "-" else [char, char.upper()])) for char in name
    )
    head = RequestHead(
        service="a",
        method="GET",
        headers=Headers([(spelled, "x"), ("a-b", "y")]),
        extra=Target(path="/"),
    )
    seen: list[RequestHead] = []

    async def upstream(request: Request) -> Response:
        seen.append(request.head)
        return local_response(ResponseHead(status=Status.OK))

    for peer, kept in (("192.0.2.7", False), ("10.0.0.1", True)):
        request = plain_request()
        request.head = head
        request.connection.peer = Address(peer, 1)
        await Forwarded(trusted=("10.0.0.0/8",))(request, upstream)
        names = [field for field, _ in seen[-1].headers]
        assert (spelled in names) is kept
        assert "a-b" in names
