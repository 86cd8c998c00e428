"""The codec contract: bytes → frames, frames → bytes (idea: h11, h2: protocols without I/O).

Rules every codec keeps, and ``xproxy.testing.check_codec`` checks:

* ``receive`` is total: no bytes whatever make it raise. A peer's crime is a ``Violation``, after the good frames
  before it; after it ``receive`` returns ``()``.
* ``send`` raises ``LocalProtocolError`` only for our own mistake.
* Chunking is invisible, up to how ``Data`` is cut.
* Nothing is quadratic or unbounded: a declared length is checked before a byte is buffered for it.
* No clock, no I/O, no logging, no randomness.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import attrs

from xproxy.model.frames import Frame
from xproxy.model.limits import Limits
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Traits


class VerdictKind(enum.Enum):
    """What a detector says of the first bytes."""

    NO = "no"
    MORE = "more"
    MAYBE = "maybe"
    YES = "yes"


@attrs.frozen
class Verdict:
    """A detector's answer for a prefix; the same for every split of the same bytes."""

    kind: VerdictKind
    at_least: int = 0
    """With MORE: how many bytes, counted from the first, can bring a decision."""

    @classmethod
    def more(cls, at_least: int) -> Verdict:
        """Ask for ``at_least`` bytes in all."""
        return cls(VerdictKind.MORE, at_least)


NO: Final = Verdict(VerdictKind.NO)
MAYBE: Final = Verdict(VerdictKind.MAYBE)
YES: Final = Verdict(VerdictKind.YES)


@attrs.frozen(kw_only=True)
class Hint:
    """What is known of a connection before its first byte is looked at."""

    tls: bool = False
    """The bytes came out of a TLS session that ended here."""
    alpn: str | None = None
    """The ALPN protocol agreed on in it."""
    sni: str | None = None
    """The server name the client asked for."""


NO_HINT: Final = Hint()


class Codec(Protocol):
    """One connection's protocol state."""

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Take bytes from the peer. None is the end of its input; ``b""`` asks for frames held back.

        What a protocol says first of its own accord (a preface, settings) is a ``Reply`` of the first call, which the
        driver makes with ``b""`` if the peer has not spoken yet.
        """
        ...

    def send(self, frame: Frame) -> bytes:
        """Return the bytes for ``frame``. Raises LocalProtocolError."""
        ...


class CodecPlugin(Protocol):
    """A protocol: what the entry point group ``xproxy.codecs`` names."""

    @property
    def name(self) -> str: ...

    @property
    def traits(self) -> Traits: ...

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        """Look at the first bytes of a connection; never consume them.

        Pure. YES, MAYBE and NO are final: whatever follows, a longer prefix gets the same verdict. Only MORE may
        become another one. That is what makes detection the same for every split of the same bytes.
        """
        ...

    def open(self, role: Role, limits: Limits) -> Codec:
        """Start a connection's state."""
        ...


@runtime_checkable
class SupportsHeartbeat(Protocol):
    """A codec whose peers can be asked whether they live. Answers to the peer's heartbeats are ``Reply`` frames."""

    def heartbeat(self) -> bytes:
        """Return a heartbeat request. Any byte that comes back is the proof of life."""
        ...


@runtime_checkable
class SupportsGoAway(Protocol):
    """A codec that can tell its peer to open no more streams."""

    def goaway(self) -> bytes:
        """Announce it and return the bytes that go out now.

        Empty where the next message carries the notice, or where this peer is not known to understand one.
        """
        ...


@runtime_checkable
class SupportsFlow(Protocol):
    """A codec with windows: it grants the peer credit, and the peer grants us some."""

    def consumed(self, stream_id: int, count: int) -> bytes:
        """Our consumer took ``count`` body bytes; returns the credit to give for them (it may be empty for now)."""
        ...

    def sendable(self, stream_id: int) -> int:
        """Return how many body bytes may be sent on this stream now; a ``Credit`` frame says when to ask again."""
        ...


@runtime_checkable
class SupportsStreamIds(Protocol):
    """A codec that says itself which id our next request has (HTTP/2: never used again, odd). Others take any."""

    def next_stream_id(self) -> int:
        """Return the id and count it as taken."""
        ...


@runtime_checkable
class SupportsSnapshot(Protocol):
    """A codec whose state can be written down at any byte."""

    def snapshot(self) -> bytes:
        """Return the state, as versioned msgpack, for the plugin's ``restore``; the codec is not used after it."""
        ...


@runtime_checkable
class RestoringPlugin(Protocol):
    """The plugin's half of SupportsSnapshot."""

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        """Continue as the codec that wrote ``state`` would. Raises ValueError for anything else, whoever sent it."""
        ...


@runtime_checkable
class SupportsUpgrade(Protocol):
    """A codec whose stream may become an opaque tunnel (CONNECT, Upgrade)."""

    def upgraded(self) -> bytes:
        """Leave the protocol: return the bytes received beyond it, which belong to the tunnel."""
        ...


@runtime_checkable
class SupportsProgress(Protocol):
    """A codec that can say whether its peer owes it the rest of something: for timeouts."""

    @property
    def unfinished(self) -> bool:
        """Whether bytes are held of a message, or of a head, that has not come whole."""
        ...


@runtime_checkable
class SupportsBypass(Protocol):
    """A codec through which bytes may pass unseen: what is received is ``Data``, what is sent is ``Data``'s bytes."""

    @property
    def transparent(self) -> bool:
        """Whether this is so from here to the end of input. The end itself is still given to ``receive``."""
        ...


@runtime_checkable
class SupportsLocalReply(Protocol):
    """A plugin that can say which of its own codes a reply made here gets on the wire."""

    def code_of(self, head: ResponseHead) -> int:
        """Return the code of a head whose ``native_status`` is None. Total."""
        ...


@runtime_checkable
class SupportsNativeStatus(Protocol):
    """A plugin that can say what one of its own codes means."""

    def status_of(self, native_status: int) -> Status:
        """Return the neutral status of a code of this protocol. Total."""
        ...


def family_of(plugin: CodecPlugin) -> str:
    """Return the family whose native codes and targets this protocol shares."""
    return plugin.traits.family or plugin.name
