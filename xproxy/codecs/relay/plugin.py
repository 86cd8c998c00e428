"""The link as a plugin, for the kit and the fuzzer. No registry knows it: nobody but xproxy speaks it."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.api import MAYBE, Hint, Verdict
from xproxy.codecs.relay.codec import RelayCodec, opened, restored
from xproxy.codecs.relay.snapshot import NAME
from xproxy.model.limits import Limits
from xproxy.model.traits import Role, Sharing, Traits

TRAITS: Final = Traits(
    sharing=Sharing.FRAMES, half_close=True, trailers=True, interim=True, rank=1000
)


@attrs.frozen
class RelayPlugin:
    """Both ends of a link."""

    name: str = NAME
    traits: Traits = TRAITS

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        """A link is known by who has its socket: any bytes may be one."""
        return MAYBE

    def open(self, role: Role, limits: Limits) -> RelayCodec:
        """Make one end of a new link."""
        return opened(role, limits)

    def restore(self, state: bytes, role: Role, limits: Limits) -> RelayCodec:
        """Go on where a snapshot was taken. Raises ValueError."""
        return restored(state, role, limits)


PLUGIN: Final = RelayPlugin()
