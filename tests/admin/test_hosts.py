from __future__ import annotations

import pytest

from xproxy.admin.hosts import is_meant
from xproxy.model.address import Address

LOOPBACK = Address("127.0.0.1", 9901)


@pytest.mark.parametrize(
    ("authority", "called", "meant"),
    [
        ("", LOOPBACK, True),
        ("127.0.0.1:9901", LOOPBACK, True),
        ("127.9.9.9", LOOPBACK, True),
        ("[::1]", LOOPBACK, True),
        ("LocalHost.:9901", LOOPBACK, True),
        ("[0:0::1]:", LOOPBACK, True),
        ("10.0.0.7:1", LOOPBACK, False),
        ("10.0.0.7:1", Address("10.0.0.7", 9901), True),
        ("10.0.0.7", Address("::ffff:10.0.0.7", 9901), True),
        ("[fe80::1]", Address("fe80::1%eth0", 9901), True),
        ("10.0.0.8", Address("10.0.0.7", 9901), False),
        ("evil.example", Address("10.0.0.7", 9901), False),
        ("localhost.evil.example", LOOPBACK, False),
        ("127.0.0.1.evil.example:80", LOOPBACK, False),
        ("[evil", LOOPBACK, False),
        ("a@localhost", LOOPBACK, False),
        ("name.internal.", LOOPBACK, True),
        ("anything", Address("", path="/run/admin.sock"), True),
    ],
)
def test_names(authority: str, called: Address, meant: bool) -> None:
    assert is_meant(authority, called, ["Name.Internal"]) is meant
