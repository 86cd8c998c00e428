"""A TLS stream written down, so that another process can go on with it. Versioned msgpack; it holds live keys.

Nobody writes it to a disk or a log: it goes from memory to memory over a socket of the same user.
"""

from __future__ import annotations

from typing import Final

import attrs
import msgpack

from xproxy.codecs.state_kinds import FLAG, number, octets, text
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.keys import IV_BYTES, suite_of
from xproxy.transport.tls.posthandshake import MAX_MESSAGE_BYTES
from xproxy.transport.tls.protection import DirectionState
from xproxy.transport.tls.session import SessionState

VERSION: Final = 2
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


_NAME: Final = text(0xFFFF)
_SEQUENCE: Final = number(0, 2**64 - 1)
_BYTES: Final = octets(MAX_STATE_BYTES)
_DIRECTION: Final = StateRecord(
    DirectionState,
    state_field("secret", octets(64)),
    state_field("iv", octets(IV_BYTES), b""),
    state_field("count", _SEQUENCE, 0),
    state_field("explicit", _SEQUENCE, 0),
)
_SESSION: Final = StateRecord(
    SessionState,
    state_field("version", _NAME),
    state_field("read", _DIRECTION.kind),
    state_field("write", _DIRECTION.kind),
    state_field("owes_update", FLAG, False),
    state_field("message", octets(MAX_MESSAGE_BYTES), b""),
)
_FACTS: Final = StateRecord(
    TlsFacts,
    state_field("sni", _NAME, None),
    state_field("alpn", _NAME, None),
    state_field("version", _NAME, ""),
    state_field("cipher", _NAME, ""),
    state_field("peer_identity", _NAME, None),
    state_field("resumed", FLAG, False),
)
_RECORD: Final = StateRecord(
    StreamState,
    state_field("session", _SESSION.kind),
    state_field("facts", _FACTS.kind),
    state_field("rest", _BYTES, b""),
    state_field("ahead", _BYTES, b""),
    state_field("backlog", _BYTES, b""),
    state_field("held", number(-1, 255), -1),
    state_field("ended", FLAG, False),
    state_field("finished", FLAG, False),
)
SCHEMA: Final = StateSchema("tls", VERSION, _RECORD)

VERSIONS: Final = (1, VERSION)
"""That are read; the last one is written."""
_VERSION_1: Final = b"\x89"
"""Version 1 was a map of nine with its version in it, and wrote down everything, as None where there is none."""


def dump(state: StreamState) -> bytes:
    """Return ``state`` for ``load``."""
    return SCHEMA.pack(state)


def load(data: bytes) -> StreamState:
    """Return what ``dump`` wrote. Raises ValueError for anything else, whoever sent it."""
    if len(data) > MAX_STATE_BYTES:
        raise ValueError(f"a snapshot of tls is {len(data)} bytes, limit {MAX_STATE_BYTES}")
    state = _load_version_1(data) if data.startswith(_VERSION_1) else SCHEMA.unpack(data)
    if state.session.version != state.facts.version or (
        suite_of(state.facts.version, state.facts.cipher) is None
    ):
        raise ValueError("a snapshot of tls with a cipher suite that cannot be continued")
    return state


def _load_version_1(data: bytes) -> StreamState:
    try:
        found = msgpack.unpackb(data, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as exc:
        raise ValueError("not a snapshot of tls") from exc
    version = found.pop("v", None)
    if type(version) is not int or version != 1:
        raise ValueError("not version 1 of a snapshot of tls")
    facts = found.get("facts")
    if isinstance(facts, dict):
        found["facts"] = {name: value for name, value in facts.items() if value is not None}
    try:
        return _RECORD.read(found)
    except ValueError as exc:
        raise ValueError(f"a snapshot of tls {exc}") from exc
