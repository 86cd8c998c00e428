from __future__ import annotations

from typing import Any

import pytest

from xproxy.filters.redirect import Redirect
from xproxy.model.address import Address
from xproxy.model.errors import Unsupported

Kit = Any  # Any: conftest.py cannot be imported


@pytest.mark.parametrize(
    ("fields", "asked", "location"),
    [
        ({"scheme": "https"}, ("a", "/x?y=1"), "https://a/x?y=1"),
        ({"scheme": "https"}, ("a:8080", "/x"), "https://a/x"),
        ({"scheme": "https", "port": 8443}, ("a:8080", "/x"), "https://a:8443/x"),
        ({"scheme": "https", "port": 443}, ("a:8080", "/x"), "https://a/x"),
        ({"scheme": "http"}, ("a:8080", "/x"), "http://a:8080/x"),
        ({"host": "b"}, ("a:8080", "/x"), "http://b/x"),
        ({"host": "b:81"}, ("a", "/x"), "http://b:81/x"),
        ({"host": "[::1]:81"}, ("a", "/x"), "http://[::1]:81/x"),
        ({"port": 81}, ("[::1]", "/x"), "http://[::1]:81/x"),
        ({"path": "/new"}, ("a", "/x?y"), "http://a/new?y"),
        ({"path": "/new?z"}, ("a", "/x?y"), "http://a/new?z"),
        ({"path": "/new", "strip_query": True}, ("a", "/x?y"), "http://a/new"),
        ({"prefix": "/old", "prefix_rewrite": "/new"}, ("a", "/old/1?y"), "http://a/new/1?y"),
        ({"prefix": "/old", "prefix_rewrite": "/new"}, ("a", "/other"), "http://a/other"),
        ({"host": "b"}, ("a", "//evil.example/"), "http://b//evil.example/"),
        ({"path": "/x"}, ("", "//evil.example/"), "http://192.0.2.1:15001/x"),
        ({"scheme": "https"}, ("", "//evil.example/"), "https://192.0.2.1//evil.example/"),
    ],
)
async def test_location(kit: Kit, fields: Any, asked: tuple[str, str], location: str) -> None:
    request = kit.web(asked[1], service=asked[0])
    response = await Redirect(**fields)(request, kit.upstream())
    assert response.head.headers["location"] == location
    assert response.head.native_status == 301
    assert request.record.local


async def test_the_scheme_of_a_tls_connection_stays(kit: Kit) -> None:
    response = await Redirect(host="b", code=308)(kit.web("/", tls=True), kit.upstream())
    assert response.head.headers["location"] == "https://b/"
    assert response.head.native_status == 308


async def test_what_has_no_path_cannot_be_redirected(kit: Kit) -> None:
    filter_ = Redirect(host="b")
    for request in (kit.rpc(), kit.web("*", method="OPTIONS"), kit.web("", method="CONNECT")):
        with pytest.raises(Unsupported):
            await filter_(request, kit.upstream())


async def test_without_any_host_there_is_no_redirect(kit: Kit) -> None:
    request = kit.web("/", service="")
    request.connection.local = Address("", 0, "/run/x.sock")
    with pytest.raises(Unsupported, match="no host"):
        await Redirect(scheme="https")(request, kit.upstream())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"strip_query": True},
        {"path": "x"},
        {"path": "/a", "prefix_rewrite": "/b"},
        {"host": "a b"},
        {"host": "a\r\nx: y"},
        {"host": "ä"},
        {"code": 200, "host": "a"},
        {"port": 0},
    ],
)
def test_bad_configuration_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        Redirect(**fields)
