"""Memory that is given to another process, and cannot change."""

from __future__ import annotations

import os
import socket

import pytest

from xproxy.transport.sealed import sealed, unsealed


def test_what_is_sealed_is_read_again_and_cannot_change() -> None:
    state = os.urandom(1 << 20)
    number = sealed(state)
    try:
        assert unsealed(number, len(state)) == state
        assert not os.get_inheritable(number)
        with pytest.raises(OSError):
            os.pwrite(number, b"x", 0)
        with pytest.raises(ValueError, match="of another size"):
            unsealed(number, len(state) - 1)
    finally:
        os.close(number)


def test_what_could_change_or_is_no_memory_is_refused() -> None:
    number = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    with socket.socket() as other:
        try:
            with pytest.raises(ValueError, match="could still change"):
                unsealed(number, 0)
            with pytest.raises(ValueError, match="in no memfd"):
                unsealed(other.fileno(), 0)
        finally:
            os.close(number)
