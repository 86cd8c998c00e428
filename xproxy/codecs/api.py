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
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, Protocol, TypeGuard, TypeVar, runtime_checkable

import attrs

from xproxy.codecs.slices import Work
from xproxy.model.frames import Frame, Head, Reset, Violation
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Traits

S = TypeVar("S")


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
    faint: bool = False
    """With MORE: so far the bytes may be anybody's, as a first byte or an empty line may be. A listener with a
    fallback waits only ``timeouts.detect_silence`` for what is missing. Where it is false they are this protocol's as
    far as anybody can tell: they never go to a fallback unless more bytes bring a NO."""

    @classmethod
    def more(cls, at_least: int, *, faint: bool = False) -> Verdict:
        """Ask for ``at_least`` bytes in all."""
        return cls(VerdictKind.MORE, at_least, faint)


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


NOT_AN_OPTION: Final[Mapping[str, object]] = {"option": False}
"""Metadata of a plugin's field that no configuration may set: ``attrs.field(metadata=NOT_AN_OPTION)``."""


class CodecPlugin(Protocol):
    """A protocol: what the entry point group ``xproxy.codecs`` names.

    Where its class is an attrs class, its public fields are options that a configuration may set; all but ``name``,
    ``traits`` and ``examples``, which say what the plugin is, and those marked ``NOT_AN_OPTION``. An instance with
    other options is made by ``attrs.evolve``.
    """

    @property
    def name(self) -> str: ...

    @property
    def traits(self) -> Traits: ...

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        """Look at the first bytes of a connection; never consume them.

        Pure. YES, MAYBE and NO are final: whatever follows, a longer prefix gets the same verdict. Only MORE may
        become another one. That is what makes detection the same for every split of the same bytes.

        YES is a promise: the codec does not refuse the bytes that were looked at, so look at versions, types, lengths
        and names until nothing else can be meant. MAYBE promises nothing: it is for this protocol spoken badly, which
        its codec refuses in its own words.
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
class SupportsConcurrency(Protocol):
    """A codec whose peer says how many of our requests it takes at a time; ``send`` refuses those above.

    Who has more of them waits for room, or opens another connection.
    """

    @property
    def settled(self) -> bool:
        """Whether the peer has said it. Until then a number holds that any peer takes, for who cannot wait."""
        ...

    @property
    def room(self) -> int:
        """How many requests may begin now; 0 or less: none, or it is not settled."""
        ...

    @property
    def saturated(self) -> bool:
        """Whether there is no room."""
        ...

    @property
    def blocked(self) -> bool:
        """Whether no body could be sent now, on any stream: others have used up what the peer lets through."""
        ...

    def premature(self, head: RequestHead) -> bool:
        """Whether a request must wait until it is settled, as not every peer takes such a one.

        Raises LocalProtocolError as ``send`` would.
        """
        ...


@runtime_checkable
class SupportsDeadline(Protocol):
    """A codec whose peer must acknowledge what was said first. It has no clock: its driver looks when time is up."""

    @property
    def patience(self) -> float:
        """Seconds that the peer has, from when the connection is there; 0: for ever."""
        ...

    @property
    def acknowledged(self) -> bool:
        """Whether it has; once it is so, it stays so."""
        ...

    def overdue(self) -> Violation:
        """The peer did not in time: end, and return how. Nothing is received after it."""
        ...


@runtime_checkable
class SupportsElapsed(Protocol):
    """A codec that bounds rates: what a peer may do in some time, not in a connection's life.

    It has no clock; its driver says how much time has passed. What it does follows from these calls and the bytes.
    """

    def elapsed(self, seconds: float) -> None:
        """So much time has passed since the last call, or since the start; what is received next came after it."""
        ...


@runtime_checkable
class SupportsStreamIds(Protocol):
    """A codec that says itself which id our next request has (HTTP/2: never used again, odd). Others take any."""

    def next_stream_id(self) -> int:
        """Return the id and count it as taken."""
        ...


@runtime_checkable
class SupportsIdWidth(Protocol):
    """A codec whose ids have a width of their own: those of our requests wrap within it."""

    @property
    def largest_id(self) -> int:
        """All ones: the largest id that a message can say."""
        ...


PREPARED_FROM: Final = 4096
"""Bytes of a body below which no message is long work."""


@runtime_checkable
class SupportsPreparing(Protocol):
    """A codec to which some messages are long work to write: a conversion. It can be done in slices beforehand.

    Not asked for bodies of less than ``PREPARED_FROM`` bytes.
    """

    def prepare(self, frame: Head) -> Work[Head] | None:
        """Return work that ends with a frame which ``send`` writes at once; None: it does so with this one.

        The stream's id in it does not matter where ``frame`` is a request. Raises LocalProtocolError, as does the
        work where ``send`` would.
        """
        ...


@runtime_checkable
class SupportsSnapshot(Protocol):
    """A codec whose state can be written down at any byte."""

    def snapshot(self) -> bytes:
        """Return the state, as versioned msgpack, for the plugin's ``restore``.

        It changes nothing, at any byte: the codec can go on. The same state gives the same bytes, also of a codec
        that ``restore`` made of them.
        """
        ...


@runtime_checkable
class RestoringPlugin(Protocol):
    """The plugin's half of SupportsSnapshot."""

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        """Continue as the codec that wrote ``state`` would. Raises ValueError for anything else, whoever sent it.

        ``limits`` are those that the codec was opened with, and so are the options of this plugin, which are made the
        same by ``attrs.evolve``: a peer was told some of them, and goes by them. They hold for the connection's life
        and belong to whoever moves it, not to the state: thousands of connections share them. Under other ones
        a state is refused where it does not fit, or continued within them.
        """
        ...


@runtime_checkable
class SupportsStateVersions(Protocol):
    """A plugin that says which versions of its codec's state there are, beside RestoringPlugin.

    Two processes say it to each other first, so that nothing stands still for one that could not read it. Where it is
    not said, ``restore`` refuses what it does not know.
    """

    @property
    def state_versions(self) -> tuple[int, ...]:
        """Those that ``restore`` reads, each from 1 to 65,535; the last one is what ``snapshot`` writes."""
        ...


@runtime_checkable
class SupportsRelay(Protocol):
    """A codec of whole messages whose connection can move while requests wait: they are answered where they came to.

    There a codec of the same connection, which sees none of it any more, writes the answers; here they leave as if
    this one had.
    """

    def answer(self, frame: Head | Reset) -> bytes:
        """Return what ``send`` would write for the answer to one request, whatever others wait for. Changes nothing.

        Raises LocalProtocolError.
        """
        ...

    def answered(self, stream_id: int, raw: bytes) -> bytes:
        """Another process answered a request with ``raw`` (empty: with nothing); return what goes out now. Total."""
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
class SupportsBacklog(Protocol):
    """A codec that gives only so much at a time, where a few bytes may become many (unpacked payloads)."""

    @property
    def backlog(self) -> bool:
        """Whether whole messages are held back, for ``receive(b"")``, once there is room for them."""
        ...

    @property
    def backlog_bytes(self) -> int:
        """Bytes held for it: messages as they came."""
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

    def code_of(self, head: ResponseHead, request: RequestHead | None = None) -> int:
        """Return the code of a head whose ``native_status`` is None, as the answer to ``request``. Total."""
        ...


@runtime_checkable
class SupportsLocalText(Protocol):
    """A plugin whose codec gives a reply made here a body, where nobody else did."""

    def text_of(self, head: ResponseHead, request: RequestHead | None = None) -> bytes:
        """Return that body, as part of the answer to ``request``. Total."""
        ...


@attrs.frozen(kw_only=True)
class Samples:
    """What a codec's author adds to the messages that ``check_codec`` and the fuzzer make up by themselves."""

    requests: tuple[RequestHead, ...] = ()
    """Requests worth sending, with the codec's own ``extra``. The first that arrives as it was sent is used."""
    recorded: tuple[bytes, ...] = ()
    """Whole streams of bytes that real clients sent; each must be readable without a violation."""
    states: tuple[tuple[Role, bytes], ...] = ()
    """What ``snapshot`` returned at some time, in this release or an earlier one; each must be restored."""

    def __add__(self, other: Samples) -> Samples:
        return Samples(
            requests=self.requests + other.requests,
            recorded=self.recorded + other.recorded,
            states=self.states + other.states,
        )


NO_SAMPLES: Final = Samples()


@runtime_checkable
class SupportsSamples(Protocol):
    """A plugin that knows what is said in its protocol, for the kit and the fuzzer."""

    def samples(self) -> Samples:
        """Return them; they join what a test hands in."""
        ...


@runtime_checkable
class SupportsNativeStatus(Protocol):
    """A plugin that can say what one of its own codes means."""

    def status_of(self, native_status: int) -> Status:
        """Return the neutral status of a code of this protocol. Total."""
        ...


@runtime_checkable
class SupportsPools(Protocol):
    """A plugin whose serial upstream connections are not all alike: what was said on one decides what may follow."""

    def pool_of(self, head: RequestHead) -> Hashable:
        """Return which connections may carry a request: those that carried others of the same value. A few values.

        A text lets those connections go along to another process, busy or idle; a tuple of plain values the idle
        ones; with anything else they stay.
        """
        ...


@runtime_checkable
class SupportsDate(Protocol):
    """A server's codec whose answers say when they were made (RFC 9110 §6.6.1)."""

    def use_clock(self, date: Callable[[], str]) -> None:
        """Call ``date`` for the time in each answer that was made here: ``Sun, 06 Nov 1994 08:49:37 GMT``.

        Without it they say none. It is no part of a snapshot.
        """
        ...


_ANSWERS: Final[dict[tuple[type, object], bool]] = {}
_MOST_ANSWERS: Final = 4096


def supports(thing: object, contract: Callable[..., S]) -> TypeGuard[S]:
    """Tell whether ``thing`` keeps one of the contracts above, asking each class once.

    ``isinstance`` with such a contract looks at every attribute each time: 5 to 10 µs, several times a connection.
    """
    key = (type(thing), contract)  # a class; mypy takes an abstract one for a callable only
    answer = _ANSWERS.get(key)
    if answer is None:
        if len(_ANSWERS) >= _MOST_ANSWERS:
            _ANSWERS.clear()
        answer = _ANSWERS[key] = isinstance(thing, contract)  # type: ignore[arg-type]  # a class
    return answer


def family_of(plugin: CodecPlugin) -> str:
    """Return the family whose native codes and targets this protocol shares."""
    return plugin.traits.family or plugin.name
