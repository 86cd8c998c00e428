"""Sealed memory."""

from __future__ import annotations

import os

import pytest

from xproxy.supervisor import memory


def test_what_is_put_can_be_got_again_and_again() -> None:
    data = os.urandom(300_000)
    descriptor = memory.put(data)
    try:
        assert not os.get_inheritable(descriptor)
        assert memory.get(descriptor) == data
        assert memory.get(descriptor) == data
    finally:
        os.close(descriptor)


def test_nobody_can_change_it() -> None:
    descriptor = memory.put(b"abc")
    try:
        for change in (
            lambda: os.pwrite(descriptor, b"x", 0),
            lambda: os.ftruncate(descriptor, 1),
            lambda: os.ftruncate(descriptor, 9),
        ):
            with pytest.raises(OSError):
                change()
        assert memory.get(descriptor) == b"abc"
    finally:
        os.close(descriptor)


def test_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = memory.put(b"abcd")
    monkeypatch.setattr(memory, "MOST_BYTES", 3)
    try:
        with pytest.raises(ValueError, match="has 4 bytes, the limit is 3"):
            memory.get(descriptor)
        with pytest.raises(ValueError, match="has 4 bytes, the limit is 3"):
            memory.put(b"abcd")
    finally:
        os.close(descriptor)
