"""The half of a plugin that follows from its codec and its table of statuses, for protocols of messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from xproxy.codecs.api import Codec
from xproxy.codecs.message_state import VERSIONS
from xproxy.codecs.messages import MessageCodec
from xproxy.codecs.status_table import StatusTable
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role


class MessagePlugin(ABC):
    """What it has besides is its name, its traits, its options, and how its bytes are recognised."""

    __slots__ = ()
    statuses: ClassVar[StatusTable]

    @abstractmethod
    def codec(self, role: Role, limits: Limits) -> MessageCodec:
        """Return a codec with the plugin's options."""

    def open(self, role: Role, limits: Limits) -> Codec:
        """See CodecPlugin."""
        return self.codec(role, limits)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        """See RestoringPlugin."""
        codec = self.codec(role, limits)
        codec.load(state)
        return codec

    @property
    def state_versions(self) -> tuple[int, ...]:
        """See SupportsStateVersions."""
        return VERSIONS

    def code_of(self, head: ResponseHead, request: RequestHead | None = None) -> int:
        """See SupportsLocalReply."""
        return self.statuses.code_of(head)

    def status_of(self, native_status: int) -> Status:
        """See CodecPlugin."""
        return self.statuses.from_native(native_status)
