"""Moments as another process gets them: through the bytes that are sent, but for their socket."""

from __future__ import annotations

from typing import TypeVar

import attrs

from xproxy.connection.standing import Moment
from xproxy.migration.packing import pack, read
from xproxy.proxy.opening_moment import OpeningMoment

T = TypeVar("T", Moment, OpeningMoment)


def through_bytes(moment: T) -> T:
    """Return what is made of a moment that was written down and read. Its socket stays behind."""
    packed, sockets = pack(moment)
    assert sockets == [moment.sock]
    made = read(packed, missing=True)
    assert type(made) is type(moment)
    assert made == attrs.evolve(moment, sock=None)
    return made
