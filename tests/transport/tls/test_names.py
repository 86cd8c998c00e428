from __future__ import annotations

import pytest

from xproxy.transport.tls.names import ServerNames


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("edge.test", 1),
        ("a.shop.test", 2),
        ("exact.shop.test", 3),
        ("a.b.shop.test", None),
        ("shop.test", None),
        (".shop.test", None),
        ("test", None),
        ("", None),
    ],
)
def test_exact_before_wildcard_and_one_label(name: str, found: int | None) -> None:
    names: ServerNames[int] = ServerNames()
    names.add(["Edge.test."], 1)
    names.add(["*.shop.test"], 2)
    names.add(["exact.shop.test", "edge.test"], 3)
    assert names.find(name) == found
    assert names.first == 1
