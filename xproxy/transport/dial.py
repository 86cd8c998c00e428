"""Opening connections to upstreams."""

from __future__ import annotations

import ipaddress
import os
import socket

import trio

from xproxy.model.address import Address
from xproxy.model.errors import ConnectFailed
from xproxy.transport.descriptors import OUT_OF_DESCRIPTORS
from xproxy.transport.listener import address_of
from xproxy.transport.names import resolver
from xproxy.transport.poller import PolledSocket, Poller


async def resolve(address: Address) -> list[tuple[socket.AddressFamily, str | tuple[str, int]]]:
    """Return the socket addresses behind ``address``; a DNS name may have several. Raises ConnectFailed."""
    if address.is_unix:
        return [(socket.AF_UNIX, address.path)]
    try:
        version = ipaddress.ip_address(address.host).version
    except ValueError:
        pass
    else:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        return [(family, (address.host, address.port))]
    try:
        found = await resolver().find(address.host, address.port)
    except OSError as exc:
        raise ConnectFailed(f"{address}: name not resolved: {exc.strerror or exc}") from exc
    return [(family, (host, port)) for family, host, port in found]


async def dial(poller: Poller, address: Address, connect_timeout: float) -> PolledSocket:
    """Connect within ``connect_timeout`` seconds, trying each address behind a name in turn. Raises ConnectFailed."""
    last: ConnectFailed | None = None
    with trio.move_on_after(connect_timeout):
        for family, where in await resolve(address):
            try:
                return await _connect(poller, family, where, address)
            except ConnectFailed as exc:
                last = exc
        try:
            raise last or ConnectFailed(f"{address}: the name has no address")
        finally:
            del last  # it knows this frame
    raise ConnectFailed(f"{address}: not connected within {connect_timeout:g} s (connect_timeout)")


def _open(poller: Poller, family: socket.AddressFamily, address: Address) -> socket.socket:
    try:
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        # Who is being served comes before who only might be.
        if exc.errno not in OUT_OF_DESCRIPTORS or not poller.descriptors.make_room():
            raise ConnectFailed(f"{address}: {exc.strerror}") from exc
    try:
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise ConnectFailed(f"{address}: {exc.strerror}") from exc


async def _connect(
    poller: Poller, family: socket.AddressFamily, where: str | tuple[str, int], address: Address
) -> PolledSocket:
    sock = _open(poller, family, address)
    polled: PolledSocket | None = None
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(where)
        except BlockingIOError as exc:
            if family == socket.AF_UNIX:
                # Such a socket connects at once or not at all: the listener's queue is full (connect(2), EAGAIN).
                raise ConnectFailed(f"{address}: {exc.strerror}") from exc
            polled = poller.add(sock, address, address)
            await polled.wait_writable()
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise ConnectFailed(f"{address}: {os.strerror(code)}") from None
        else:
            polled = poller.add(sock, address, address)
            await trio.lowlevel.checkpoint()
        polled.local = address_of(sock)
        polled.upstream = True
        return polled
    except BaseException as exc:
        if polled is not None:
            polled.close()
        sock.close()
        if isinstance(exc, OSError):
            raise ConnectFailed(f"{address}: {exc.strerror or exc}") from exc
        raise
