"""Hash policies: what each finds, how they combine, and the cookie that a client is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from tests.routing.conftest import NotedLimits
from xproxy.config.balancing import CookieConfig, HashPolicyConfig
from xproxy.model.headers import Headers
from xproxy.model.limits import Duration
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.metadata import Key
from xproxy.model.status import Status
from xproxy.routing.hash_policy import HashPolicies, combined
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import ConnectionFacts, Request, Response, local_response

TENANT: Key[str] = Key("tests.hash_policy.tenant")
COLOUR = CookieConfig(name="colour", ttl=Duration(60.0))


def request_of(facts: ConnectionFacts, head: RequestHead) -> Request:
    return Request(head, BytesBody(), facts, NotedLimits(), 0.0)  # type: ignore[arg-type]  # nothing more is asked


def web(facts: ConnectionFacts, *headers: tuple[str, str]) -> Request:
    head = RequestHead(
        service="a",
        method="GET",
        headers=Headers(headers),
        extra=Target(path="/cart/7?user=jason"),
    )
    return request_of(facts, head)


def hash_of(request: Request, *configs: HashPolicyConfig) -> int | None:
    return HashPolicies(configs).hash_of(request, [])


def xx(text: str) -> int:
    return xxh64_intdigest(text.encode())


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (HashPolicyConfig(header="x-user"), "jason"),
        (HashPolicyConfig(header="x-none"), None),
        (HashPolicyConfig(cookie=CookieConfig(name="id")), "42"),
        (HashPolicyConfig(cookie=CookieConfig(name="none")), None),
        (HashPolicyConfig(query="user"), "jason"),
        (HashPolicyConfig(query="none"), None),
        (HashPolicyConfig(path=True), "/cart/7"),
        (HashPolicyConfig(source=True), "192.0.2.7"),
        (HashPolicyConfig(metadata="tests.hash_policy.tenant"), "acme"),
        (HashPolicyConfig(metadata="tests.hash_policy.none"), None),
        (HashPolicyConfig(argument="user.id"), None),
    ],
)
def test_it_is_the_xxhash_of_what_was_found(
    facts: ConnectionFacts, config: HashPolicyConfig, text: str | None
) -> None:
    request = web(facts, ("X-User", "jason"), ("cookie", "a=1; id=42"))
    request.note(TENANT, "acme")
    assert hash_of(request, config) == (None if text is None else xx(text))


def test_of_a_call_attachments_and_service_and_method_count(facts: ConnectionFacts) -> None:
    head = RequestHead(service="Cart", method="get", headers=Headers([("tenant", "acme")]))
    request = request_of(facts, head)
    assert hash_of(request, HashPolicyConfig(header="tenant")) == xx("acme")
    assert hash_of(request, HashPolicyConfig(path=True)) == xx("Cart/get")
    # Nobody would send a cookie back.
    given_: list[str] = []
    assert HashPolicies([HashPolicyConfig(cookie=COLOUR)]).hash_of(request, given_) is None
    assert given_ == []


def test_policies_combine_in_order_by_rotate_left_1_and_xor(facts: ConnectionFacts) -> None:
    one, two = HashPolicyConfig(path=True), HashPolicyConfig(source=True)
    first, second = xx("/cart/7"), xx("192.0.2.7")
    turned = (first << 1 | first >> 63) & (1 << 64) - 1
    assert hash_of(web(facts), one, two) == turned ^ second
    assert hash_of(web(facts), two, one) != turned ^ second


def test_terminal_ends_it_if_there_is_a_hash(facts: ConnectionFacts) -> None:
    user = HashPolicyConfig(header="x-user", terminal=True)
    source = HashPolicyConfig(source=True)
    assert hash_of(web(facts, ("x-user", "a")), user, source) == xx("a")
    assert hash_of(web(facts), user, source) == xx("192.0.2.7")
    assert hash_of(web(facts), HashPolicyConfig(query="none")) is None


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_hash_has_64_bits(before: int, found: int) -> None:
    assert 0 <= combined(before, found) < 2**64
    assert combined(None, found) == found
    assert combined(before, found) ^ found == combined(before, 0)


async def test_a_client_without_the_cookie_is_given_one_once(facts: ConnectionFacts) -> None:
    policies = HashPolicies([HashPolicyConfig(cookie=COLOUR)])

    async def answer(request: Request) -> Response:
        return local_response(ResponseHead(status=Status.OK, headers=Headers([("a", "b")])))

    request = web(facts)
    response = await policies(request, answer)
    (field,) = response.head.headers.get_all("set-cookie")
    value = field.partition('"')[2].partition('"')[0]
    assert field == f'colour="{value}"; Max-Age=60; Path=/; HttpOnly'
    assert request.record.hash == xx(value)
    again = web(facts, ("cookie", f"colour={value}"))
    response = await policies(again, answer)
    assert response.head.headers.get("set-cookie") is None
    assert again.record.hash == request.record.hash
    assert request.fork().record.hash == request.record.hash  # a retry goes by the same


def test_exactly_one_key_is_given() -> None:
    with pytest.raises(ValueError, match="exactly one of header, cookie"):
        HashPolicyConfig()
    with pytest.raises(ValueError, match="exactly one of header, cookie"):
        HashPolicyConfig(header="a", query="b")
