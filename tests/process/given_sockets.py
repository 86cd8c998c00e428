"""Listening sockets that a parent has opened, as the supervisor's are."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from xproxy.model.address import Address
from xproxy.proxy import runtime as runtimes
from xproxy.proxy.runtime import Runtime


def use_given_sockets(_runtime: Runtime, given: Mapping[str, str]) -> None:
    """Let listeners of these addresses have these descriptors."""

    def given_listener(address: Address, **_: object) -> socket.socket:
        sock = socket.socket(fileno=int(given[str(address)]))
        sock.setblocking(False)
        return sock

    setattr(runtimes, "open_listener", given_listener)  # noqa: B010  # it is not theirs to export
