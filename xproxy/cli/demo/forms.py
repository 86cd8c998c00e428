"""How the demo says a text in the bodies of a protocol: as it is, or in the form that the protocol's bodies have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs


@attrs.frozen(kw_only=True)
class Form:
    """A text as a body, and back."""

    write: Callable[[bytes], bytes]
    read: Callable[[bytes], bytes]
    """Gives back any other body as it is."""


_STRING: Final = b"\x0b\x00\x01"  # a field of type 11, number 1
_STOP: Final = b"\x00"


def _struct(text: bytes) -> bytes:
    return _STRING + len(text).to_bytes(4) + text + _STOP


def _unstruct(body: bytes) -> bytes:
    return body[7:-1] if body[:3] == _STRING else body


AS_IT_IS: Final = Form(write=lambda text: text, read=lambda body: body)
_FORMS: Final[Mapping[str, Form]] = {"thrift": Form(write=_struct, read=_unstruct)}


def form_of(protocol: str) -> Form:
    """Return the form for the bodies of a protocol."""
    return _FORMS.get(protocol, AS_IT_IS)
