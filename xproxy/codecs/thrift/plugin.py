"""The plugin ``thrift``: every transport with every protocol, told apart by each message's first bytes."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from xproxy.codecs.api import Codec, Hint, Verdict
from xproxy.codecs.thrift.client import ClientCodec
from xproxy.codecs.thrift.dialect import (
    FRAMED_STRICT,
    Protocol,
    Transport,
    Upstreams,
    upstreams,
)
from xproxy.codecs.thrift.first_bytes import judge
from xproxy.codecs.thrift.interface import Interface, load
from xproxy.codecs.thrift.message import CODEC, ThriftExtra
from xproxy.codecs.thrift.server import ServerCodec
from xproxy.codecs.thrift.snapshot import CLIENT, SERVER
from xproxy.codecs.thrift.status import from_native, to_native
from xproxy.model.limits import File, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits

TRAITS: Final = Traits(
    sharing=Sharing.MESSAGES,
    # Most servers take one call at a time from a connection: a second one would wait for the first.
    upstream_sharing=Sharing.SERIAL,
    family=CODEC,
    oneway=True,
    rank=40,
)
EXAMPLES: Final = (
    bytes.fromhex("00000018 80010001 00000004 6563686f 00000001 0b0001 00000000 00"),
    bytes.fromhex("80010001 00000004 6563686f 00000001 00"),
    bytes.fromhex("00000009 82210104 6563686f 00"),
    bytes.fromhex(
        "00000020 0fff 0000 00000001 0001 00000000 80010001 00000004 65636867 00000001 00 00"
    ),
    bytes.fromhex("00000004 6563686f 01 00000001 00"),
)
"""Calls: framed, unframed, framed compact, with a header, unframed old."""


@attrs.frozen(kw_only=True)
class ThriftPlugin:
    """Thrift in every transport and protocol; calls go upstream as they came unless it is said otherwise here.

    Raises ValueError for a transport that does not have the protocol, and for an interface that cannot be read.
    """

    name: ClassVar[str] = CODEC
    traits: ClassVar[Traits] = TRAITS
    examples: ClassVar[tuple[bytes, ...]] = EXAMPLES

    transport: Transport | None = None
    """Of upstream connections; not given: that of each call."""
    protocol: Protocol | None = None
    """Of upstream connections; not given: that of each call."""
    idl: tuple[File, ...] = ()
    """Interface files, for arguments by name in routes and logs, and to convert JSON. Needs the extra ``thrift``."""

    _upstreams: Upstreams = attrs.field(init=False, repr=False, eq=False)
    _interface: Interface | None = attrs.field(init=False, repr=False, eq=False)

    @_upstreams.default
    def _choose(self) -> Upstreams:
        return upstreams(self.transport, self.protocol)

    @_interface.default
    def _load(self) -> Interface | None:
        return load(self.idl) if self.idl else None

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return judge(prefix)

    def open(self, role: Role, limits: Limits) -> Codec:
        if role is Role.SERVER:
            return ServerCodec(limits, self._interface)
        return ClientCodec(limits, self._upstreams, self._interface)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        """Continue as the codec that wrote ``state`` would. Raises ValueError."""
        if role is Role.SERVER:
            server = ServerCodec(limits, self._interface)
            server.load(SERVER.unpack(state))
            return server
        client = ClientCodec(limits, self._upstreams, self._interface)
        client.load(CLIENT.unpack(state))
        return client

    @property
    def state_versions(self) -> tuple[int, ...]:
        """See SupportsStateVersions."""
        return SERVER.versions

    def pool_of(self, head: RequestHead) -> str:
        """See SupportsPools: a server may take a connection to speak what it spoke first."""
        extra = head.extra
        return self._upstreams[extra.dialect if type(extra) is ThriftExtra else FRAMED_STRICT].pool

    def code_of(self, head: ResponseHead, request: RequestHead | None = None) -> int:
        """See SupportsLocalReply."""
        return to_native(head.status)

    def status_of(self, native_status: int) -> Status:
        """Return what a type of exception means; -1 is a reply. Total."""
        return from_native(native_status)


PLUGIN: Final = ThriftPlugin()
