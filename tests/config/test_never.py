from __future__ import annotations

import pytest

from xproxy.config.load import read_text
from xproxy.registry import default_registry


def warned(route: str, listener: str = "") -> list[str]:
    """Return what ``check`` warns of in a route."""
    text = (
        f"listeners:\n  - {{name: a, address: '127.0.0.1:8080', routes: main{listener}}}\n"
        f"routes:\n  main:\n    - {{cluster: c, {route}}}\n    - cluster: c\n"
        "clusters: {c: {endpoints: ['127.0.0.1:1']}}\n"
    )
    loaded = read_text(text, "t.yaml", default_registry())
    return [one.message for one in loaded.warnings]


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ("match: {path: api}", 'write "/api"'),
        ("match: {path: {prefix: api/}}", 'write "/api/"'),
        ("match: {path: {segment_prefix: 'https://a/b'}}", "begins with a slash"),
        ("match: {path: '/a?b=c'}", "use `query`"),
        ("match: {path: '/x/../a'}", 'write "/a"'),
        ("match: {path: '/%61'}", 'write "/a"'),
        ("match: {path: '//a'}", 'write "/a"'),
        ("match: {headers: {'x y': z}}", "not the name of a header"),
        ("match: {headers: {'x:': z}}", "not the name of a header"),
        ("match: {headers: {x: ' z'}}", "white space"),
        ("match: {headers: {x: {suffix: 'z '}}}", "white space"),
        ("match: {path: /a, method: get}", "write GET"),
        ("hosts: [a], match: {method: [Post]}", "write POST"),
        ("match: {tls: false, peer_identity: a}", "shows a certificate"),
        ("match: {tls: true}", "ends TLS"),
        ("match: {sni: a}", "looks at TLS"),
        ("match: {peer_identity: a}", "asks for certificates"),
        ("match: {port: 81}", "is there"),
    ],
)
def test_what_can_never_hold_is_told(route: str, says: str) -> None:
    (message,) = [one for one in warned(route) if says in one] or [str(warned(route))]
    assert message.startswith("never holds: ")
    assert says in message


@pytest.mark.parametrize(
    ("route", "listener"),
    [
        ("match: {path: /api}", ""),
        ("match: {path: {prefix: /}}", ""),
        ("match: {path: {prefix: /.}}", ""),
        ("match: {path: '*', method: OPTIONS}", ""),
        ("match: {path: {regex: api}}", ""),
        ("match: {path: '//a'}", ", merge_slashes: false"),
        ("match: {path: '/x/../a'}", ", normalize_path: false"),
        (
            "match: {headers: {upgrade: websocket, connection: upgrade, te: trailers, ':path': /x}}",
            "",
        ),
        ("match: {headers: {x: {exact: ' z', invert: true}}}", ""),
        ("match: {method: get}", ""),
        ("match: {tls: false}", ""),
        ("match: {sni: {present: false}}", ""),
        ("match: {port: 8080}", ""),
        ("match: {port: 81}", ", proxy_protocol: true"),
    ],
)
def test_what_can_hold_is_not(route: str, listener: str) -> None:
    assert warned(route, listener) == []


def test_a_route_that_was_there_before_is_never_reached() -> None:
    text = (
        "listeners:\n  - {name: a, address: '127.0.0.1:8080', routes: main}\n"
        "routes:\n  main:\n    - {cluster: c, match: {path: /a}}\n"
        "    - {cluster: c, match: {path: /b}}\n    - {cluster: c, match: {path: /a}}\n"
        "clusters: {c: {endpoints: ['127.0.0.1:1']}}\n"
    )
    loaded = read_text(text, "t.yaml", default_registry())
    assert [one.message for one in loaded.warnings] == [
        "never reached: routes.main[0] matches the same"
    ]
