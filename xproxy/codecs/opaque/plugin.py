"""The plugin ``opaque``: bytes that no codec need understand (L4)."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.api import MAYBE, Codec, Hint, Verdict
from xproxy.codecs.opaque.codec import OpaqueCodec
from xproxy.codecs.opaque.snapshot import NAME, SCHEMA
from xproxy.codecs.opaque.state import State
from xproxy.codecs.opaque.status import from_native
from xproxy.model.limits import Limits
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits

TRAITS: Final = Traits(
    sharing=Sharing.SERIAL, half_close=True, server_first=True, headless=True, rank=1000
)


@attrs.frozen
class OpaquePlugin:
    """L4: opened for a listener without other codecs, or as a fallback; the detector never chooses it."""

    name: str = NAME
    traits: Traits = TRAITS

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        """Any bytes may be this."""
        return MAYBE

    def open(self, role: Role, limits: Limits) -> Codec:
        """Start a connection. Nothing is buffered, so no limit applies."""
        return OpaqueCodec(role, State())

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        """Continue where ``snapshot`` was taken. Raises ValueError."""
        return OpaqueCodec(role, SCHEMA.unpack(state))

    @property
    def state_versions(self) -> tuple[int, ...]:
        """See SupportsStateVersions."""
        return SCHEMA.versions

    def status_of(self, native_status: int) -> Status:
        return from_native(native_status)


PLUGIN: Final = OpaquePlugin()
