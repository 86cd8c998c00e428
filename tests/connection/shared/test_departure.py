"""What a link is told, and what of it is taken back."""

from __future__ import annotations

from tests.connection.shared.wires import Mute, shared_wire
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.http2.plugin import PLUGIN as HTTP2
from xproxy.codecs.relay.codec import opened
from xproxy.connection.shared.departure import bye, farewell, relayable
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role


def test_what_can_be_relayed_is_a_matter_of_the_protocol() -> None:
    bolt = shared_wire(BOLT.open(Role.SERVER, DEFAULT_LIMITS))
    assert relayable(bolt)
    assert not relayable(shared_wire(BOLT.open(Role.CLIENT, DEFAULT_LIMITS), role=Role.CLIENT))
    assert not relayable(shared_wire(Mute()))
    # Pieces, of a family whose heads have facts of their own.
    assert not relayable(shared_wire(HTTP2.open(Role.SERVER, DEFAULT_LIMITS), whole=False))


def test_only_a_link_has_words_for_its_end() -> None:
    relay = opened(Role.SERVER, DEFAULT_LIMITS)
    assert farewell(shared_wire(relay)) == opened(Role.SERVER, DEFAULT_LIMITS).goaway()
    assert bye(shared_wire(relay))
    assert bye(shared_wire(Mute())) == farewell(shared_wire(Mute())) == b""
