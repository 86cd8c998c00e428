from __future__ import annotations

import pytest

from tests.transport.tls.kit import (
    NAME,
    SslPeer,
    authority,
    client_context,
    connection,
    issued,
    served,
    server_tls,
)
from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.contexts import Certificate, ClientCertificates
from xproxy.transport.tls.peers import SanPatterns, check, identity_of, names_of


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("shop.test", ("DNS", "Shop.Test"), True),
        ("shop.test", ("DNS", "xshop.test"), False),
        ("*.shop.test", ("DNS", "a.shop.test"), True),
        ("*.shop.test", ("DNS", "a.b.shop.test"), False),
        ("*.shop.test", ("DNS", ".shop.test"), False),
        ("spiffe://mesh/ns/*/sa/till", ("URI", "spiffe://mesh/ns/shop/sa/till"), True),
        ("spiffe://mesh/ns/*/sa/till", ("URI", "spiffe://mesh/ns/shop/x/sa/till"), False),
        ("spiffe://mesh/ns/shop/*", ("URI", "spiffe://mesh/ns/shop/sa/till"), True),
        ("spiffe://mesh/ns/shop/*", ("URI", "spiffe://mesh/ns/shop/"), False),
        ("spiffe://mesh/ns/shop/*", ("URI", "spiffe://mesh/ns/shopping/sa"), False),
        ("spiffe://mesh/Shop", ("URI", "spiffe://mesh/shop"), False),
        ("10.0.0.1", ("IP Address", "10.0.0.1"), True),
        ("10.0.0.1", ("IP Address", "10x0.0.1"), False),
        ("*.shop.test", ("email", "anybody@a.shop.test"), False),
        ("*.shop.test", ("URI", "urn:a.shop.test"), False),
        ("till@shop.test", ("email", "till@shop.test"), True),
    ],
)
def test_patterns(pattern: str, name: tuple[str, str], matches: bool) -> None:
    assert SanPatterns([pattern]).matches([("DNS", "other.test"), name]) is matches


def test_no_pattern_wants_nothing() -> None:
    check([], SanPatterns([]), Alert.ACCESS_DENIED)
    with pytest.raises(TlsError, match="none of the names") as caught:
        check([], SanPatterns(["a.test"]), Alert.ACCESS_DENIED)
    assert caught.value.alert is Alert.ACCESS_DENIED


def test_the_identity_is_a_uri_before_a_name_before_the_common_name() -> None:
    names = [("IP Address", "10.0.0.1"), ("DNS", "a.test"), ("URI", "spiffe://a"), ("URI", "b://")]
    assert identity_of(names, "cn") == "spiffe://a"
    assert identity_of(names[:2], "cn") == "a.test"
    assert identity_of(names[:1], "cn") == "cn"
    assert identity_of([], None) is None


async def test_a_certificate_without_names_has_its_common_name() -> None:
    found = authority().issue(common_name="old style", file="common")
    context = client_context()
    context.load_cert_chain(found.cert, found.key)
    asks = ClientCertificates(mode="require", ca=str(authority().ca))
    async with connection() as pair:
        peer = SslPeer(pair.socket, context, server_name=NAME)
        stream = await served(pair, server_tls(client=asks), peer)
        assert stream.facts.peer_identity == "old style"
    assert issued().cert.exists()


async def test_an_ipv6_address_is_written_as_everywhere() -> None:
    found = authority().issue("fd00::1", file="six")
    context = client_context()
    context.load_cert_chain(found.cert, found.key)
    asks = ClientCertificates(mode="require", ca=str(authority().ca), names=("fd00::1",))
    tls = server_tls(certificates=[Certificate(str(found.cert), str(found.key))], client=asks)
    async with connection() as pair:
        peer = SslPeer(pair.socket, context, server_name="fd00::1")
        await served(pair, tls, peer)
        assert names_of(peer.object)[0] == [("IP Address", "fd00::1")]
