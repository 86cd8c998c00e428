"""A TLS stream written down, so that another process can go on with it. Versioned msgpack; it holds live keys.

Nobody writes it to a disk or a log: it goes from memory to memory over a socket of the same user.
"""

from __future__ import annotations

from typing import Final, TypeVar

import attrs
import msgpack

from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.keys import suite_of
from xproxy.transport.tls.posthandshake import MAX_MESSAGE_BYTES
from xproxy.transport.tls.protection import DirectionState
from xproxy.transport.tls.session import SessionState

T = TypeVar("T")

VERSION: Final = 1
MAX_STATE_BYTES: Final = 4 * 1024 * 1024
"""A state with all that may be unread or unsent; beyond it, it is none of ours."""


@attrs.frozen(kw_only=True)
class StreamState:
    """A TlsStream between two of its calls."""

    session: SessionState
    facts: TlsFacts
    rest: bytes = b""
    """Ciphertext that was read and not decrypted."""
    ahead: bytes = b""
    """Plaintext that was decrypted and not read."""
    backlog: bytes = b""
    """Ciphertext that the socket has not taken."""
    held: int = -1
    """The byte that is encrypted but not acknowledged to the writer; -1: none."""
    ended: bool = False
    """The peer has said close_notify."""
    finished: bool = False
    """We have said close_notify."""


class _Fields:
    """A map of which nothing is known yet."""

    def __init__(self, found: object) -> None:
        if not isinstance(found, dict):
            raise ValueError("a TLS state that is no map")
        self._found = found

    def get(self, name: str, kind: type[T]) -> T:
        """Return a field of exactly this type. Raises ValueError."""
        value = self._found.get(name)
        if type(value) is not kind:
            raise ValueError(f"a TLS state without a right {name}")
        return value

    def optional(self, name: str) -> str | None:
        """Return a text that may be missing."""
        return None if self._found.get(name) is None else self.get(name, str)


def dump(state: StreamState) -> bytes:
    """Return ``state`` for ``load``."""
    return bytes(
        msgpack.packb(
            {
                "v": VERSION,
                "session": attrs.asdict(state.session),
                "facts": attrs.asdict(state.facts),
                "rest": state.rest,
                "ahead": state.ahead,
                "backlog": state.backlog,
                "held": state.held,
                "ended": state.ended,
                "finished": state.finished,
            }
        )
    )


def load(data: bytes) -> StreamState:
    """Return what ``dump`` wrote. Raises ValueError for anything else, whoever sent it."""
    if len(data) > MAX_STATE_BYTES:
        raise ValueError(f"a TLS state of {len(data)} bytes, limit {MAX_STATE_BYTES}")
    try:
        found = msgpack.unpackb(data, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as exc:
        raise ValueError("a TLS state that is not msgpack") from exc
    fields = _Fields(found)
    if fields.get("v", int) != VERSION:
        raise ValueError("a TLS state of another version")
    session = _Fields(fields.get("session", dict))
    facts = _Fields(fields.get("facts", dict))
    state = StreamState(
        session=SessionState(
            version=session.get("version", str),
            read=_direction(session.get("read", dict)),
            write=_direction(session.get("write", dict)),
            owes_update=session.get("owes_update", bool),
            message=session.get("message", bytes),
        ),
        facts=TlsFacts(
            sni=facts.optional("sni"),
            alpn=facts.optional("alpn"),
            version=facts.get("version", str),
            cipher=facts.get("cipher", str),
            peer_identity=facts.optional("peer_identity"),
            resumed=facts.get("resumed", bool),
        ),
        rest=fields.get("rest", bytes),
        ahead=fields.get("ahead", bytes),
        backlog=fields.get("backlog", bytes),
        held=fields.get("held", int),
        ended=fields.get("ended", bool),
        finished=fields.get("finished", bool),
    )
    if not -1 <= state.held <= 255 or len(state.session.message) > MAX_MESSAGE_BYTES:
        raise ValueError("a TLS state out of range")
    if state.session.version != state.facts.version or (
        suite_of(state.facts.version, state.facts.cipher) is None
    ):
        raise ValueError("a TLS state of a cipher suite that cannot be continued")
    return state


def _direction(found: dict[str, object]) -> DirectionState:
    fields = _Fields(found)
    return DirectionState(
        secret=fields.get("secret", bytes),
        iv=fields.get("iv", bytes),
        count=fields.get("count", int),
        explicit=fields.get("explicit", int),
    )
