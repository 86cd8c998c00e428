"""A proxy that opens its sockets itself."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from xproxy.config.schema import ListenerConfig
from xproxy.model.address import Address
from xproxy.proxy.listener_source import OwnListeners
from xproxy.transport.listener import ListenError


async def test_its_own_sockets_and_paths(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    config = ListenerConfig(name="a", address=Address("", 0, str(path)), routes="r")
    own = OwnListeners()
    (sock,) = await own.open(config, single=False)
    with sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        with pytest.raises(ListenError):
            await own.open(config, single=False)
        assert await own.release(config)
        own.forget(config)
    assert path.exists()
    own.ended(config)
    own.ended(config)
    assert not path.exists()
