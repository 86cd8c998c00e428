"""Invariant: any request has one hash of 64 bits or none, the same every time, and no policy raises anything."""

from __future__ import annotations

from typing import cast

from fuzz.targets import Seed, Target
from xproxy.config.balancing import CookieConfig, HashPolicyConfig
from xproxy.model.address import Address
from xproxy.model.headers import Headers
from xproxy.model.limits import Duration
from xproxy.model.message import RequestHead
from xproxy.model.message import Target as WebTarget
from xproxy.model.traits import Sharing, Traits
from xproxy.registry import Registry
from xproxy.routing.hash_policy import HashPolicies
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import ConnectionFacts, Request, StreamControl
from xproxy.testing.subject import Broken

_CONFIGS = (
    HashPolicyConfig(header="a"),
    HashPolicyConfig(cookie=CookieConfig(name="a")),
    HashPolicyConfig(cookie=CookieConfig(name="b", ttl=Duration(5.0))),
    HashPolicyConfig(query="a"),
    HashPolicyConfig(argument="a.b"),
    HashPolicyConfig(metadata="a"),
    HashPolicyConfig(source=True),
    HashPolicyConfig(path=True),
)
_SEEDS = (
    b"\x00\x07/p?a=1&a=%61\na: x\ncookie: a=1; b=2\n",
    b'\x01\x03/\ncookie: a="1"; b\ncookie: ;;=\n',
    b"\xff\x00\n\xff: \xfe\na: \n",
    b"\x22\x05?a=%\xc3\xa4&=+\nCookie: b= \n",
)


def target(registry: Registry) -> Target:
    """Return the target of hash policies: two bytes choose them, lines are path and headers."""

    def check(data: bytes) -> None:
        chosen = [one for bit, one in enumerate(_CONFIGS) if data[:1] and data[0] >> bit & 1]
        web = data[1:2] != b"\x00"
        path, *lines = data[2:].decode("utf-8", "surrogateescape").split("\n")
        fields = [(name or "a", value) for name, _, value in (one.partition(":") for one in lines)]
        extra = WebTarget(path=path) if web else None
        head = RequestHead(service=path, method="m", headers=Headers(fields), extra=extra)
        facts = ConnectionFacts(
            id=1,
            listener="edge",
            protocol="fuzz",
            traits=Traits(sharing=Sharing.MESSAGES),
            peer=Address("192.0.2.1", 50000),
            local=Address("192.0.2.2", 80),
        )
        request = Request(head, BytesBody(), facts, cast("StreamControl", None), 0.0)
        policies = HashPolicies(chosen)
        given: list[str] = []
        first = policies.hash_of(request, given)
        if first is not None and not 0 <= first < 1 << 64:
            raise Broken(f"a hash of more than 64 bits: {first}", data)
        if not given and policies.hash_of(request, []) != first:
            raise Broken("two hashes of one request", data)
        if any("\n" in field or "\r" in field for field in given):
            raise Broken("a Set-Cookie of two lines", data)

    return Target(
        name="hash_policy",
        check=check,
        seeds=lambda: [Seed(f"request-{i}", data) for i, data in enumerate(_SEEDS)],
    )
