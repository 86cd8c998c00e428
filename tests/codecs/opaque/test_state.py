"""An opaque connection begins with nothing said and both directions open."""

from __future__ import annotations

import attrs

from xproxy.codecs.opaque.state import State


def test_a_connection_begins_open() -> None:
    assert not any(attrs.astuple(State()))
