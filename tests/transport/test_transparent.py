"""Where a connection was going: to us, unless its own address or the kernel says otherwise.

Redirected ones are in ``tests/upstream/discovery/test_original_destination.py``, which needs a network of its own.
"""

from __future__ import annotations

import os
import socket

import pytest

from xproxy.model.address import Address
from xproxy.transport.listener import address_of
from xproxy.transport.transparent import destination_of, take_any


@pytest.mark.parametrize(
    ("local", "listening", "expected"),
    [
        ("127.0.0.1:15001", "127.0.0.1:15001", None),
        ("127.0.0.1:15001", "0.0.0.0:15001", None),
        ("[::1]:15001", "[::]:15001", None),
        ("10.0.0.9:80", "0.0.0.0:15001", "10.0.0.9:80"),
        ("10.0.0.9:15001", "127.0.0.1:15001", "10.0.0.9:15001"),
    ],
)
def test_an_address_that_is_not_the_listeners_was_meant(
    local: str, listening: str, expected: str | None
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        found = destination_of(sock, Address.parse(local), Address.parse(listening))
    assert found == (None if expected is None else Address.parse(expected))


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_connection_that_nobody_redirected_was_going_to_us(family: int, host: str) -> None:
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2]) as client,
    ):
        accepted, _ = listener.accept()
        with accepted:
            assert client.getpeername() == accepted.getsockname()
            local = address_of(accepted)
            assert destination_of(accepted, local, address_of(listener)) is None


def test_unix_sockets_are_never_redirected() -> None:
    one, two = socket.socketpair()
    with one, two:
        take_any(one)
        assert destination_of(one, address_of(one), address_of(two)) is None


@pytest.mark.parametrize(
    ("family", "level", "option"),
    [(socket.AF_INET, socket.IPPROTO_IP, 19), (socket.AF_INET6, socket.IPPROTO_IPV6, 75)],
)
def test_a_listening_socket_takes_any_address_where_it_may(
    family: int, level: int, option: int
) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        if os.geteuid() != 0:
            with pytest.raises(OSError, match="not permitted"):
                take_any(sock)
            return
        take_any(sock)
        assert sock.getsockopt(level, option) == 1
