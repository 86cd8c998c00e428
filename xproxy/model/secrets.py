"""Which names carry secrets: one list, for whatever shows a configuration or what clients sent.

Names are compared by their words, however they are spelled: ``x-auth-token``, ``X-AuthToken`` and ``X_AUTH_TOKEN``
are one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final, final
from urllib.parse import unquote

import attrs

REDACTED: Final = "[redacted]"

# At the end of a name, as words of their own.
_WORDS: Final = re.compile(
    r"""(?x) (?: ^ | -) (?:
      (?: password | passwd | passphrase | passcode | pwd | secret | token | credential | cookie | api-?key ) s?
    | (?: access | private | secret | signing ) -keys  # `max_keys` is a number of them
    | key | auth | authentication | authorization | assertion | saml-?response | bearer | jwt | hmac
    | signature | sig | session-?id | sid | otp | otp-code | pass
    ) $"""
)
# At the end of a name whose words nobody can tell apart: what ends no other word.
_ENDINGS: Final = re.compile(
    r"""(?x) (?: password | passwd | passphrase | passcode | secret | token | credential | cookie | authorization
    | apikey | accesskey | secretkey | privatekey | signingkey | hmac | jwt | sessionid | sessid | assertion
    | signature ) s? $"""
)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
# What follows is tried on whatever clients send, so it looks at no character more than a few times. Runs are taken
# whole (``++``), and begin where nothing of a run stands before them.
_USER: Final = re.compile(r"://[^/?#\s]*@")  # to the last one: a password may have one in it
_PARAMETER: Final = re.compile(r"(?<![^?&;=#\s\"'])(?P<name>[^?&;=#\s\"']++)=")
_VALUE: Final = re.compile(r"[^&;#\s\"']*+")
_PARAMETERS: Final = re.compile(r"[?#;]")
# password2, token[0], X-Access-Token-V2, X-Shopify-Hmac-Sha256, id_token_hint
_QUALIFIER: Final = re.compile(r"(?:-(?:v|sha|ed|md|hint)|-?)[0-9]*\Z")
_LONGEST: Final = 256
"""Characters of a name that are looked at, from its end: where its last words are."""
_SCHEME: Final = re.compile(r"\b(?P<scheme>(?i:bearer|basic|digest|negotiate))\s+\S+")


@functools.lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    words = _QUALIFIER.sub("", normalised_name(name), count=1)
    return _WORDS.search(words) is not None or _ENDINGS.search(words.replace("-", "")) is not None


def normalised_name(name: str) -> str:
    """Return the words of a name in lower case, with a dash between them."""
    return _SEPARATORS.sub("-", _HUMP.sub("-", name).lower()).strip("-")


@final
@attrs.frozen(kw_only=True)
class SecretNames:
    """Which values are hidden: those that are named like a password, a token, a key or a cookie, and as said here."""

    also: tuple[str, ...] = ()
    """Names that are hidden as well, however they are spelled."""
    never: tuple[str, ...] = ()
    """Names that are shown, although they look like secrets."""

    _also: frozenset[str] = attrs.field(
        default=attrs.Factory(lambda self: _set(self.also), takes_self=True),
        init=False,
        eq=False,
        repr=False,
    )
    _never: frozenset[str] = attrs.field(
        default=attrs.Factory(lambda self: _set(self.never), takes_self=True),
        init=False,
        eq=False,
        repr=False,
    )

    def hides(self, name: str) -> bool:
        """Say whether what has this name is nobody else's business."""
        if self._also or self._never:
            plain = normalised_name(name).replace("-", "")
            if plain in self._never:
                return False
            if plain in self._also:
                return True
        return _is_secret(name[-_LONGEST:])

    def clean(self, text: str) -> str:
        """Return a text without what is secret in the URLs in it: user information, and values of parameters."""
        if "@" in text and "://" in text:
            text = _USER.sub(f"://{REDACTED}@", text)
        if "=" in text and (begin := _PARAMETERS.search(text)) is not None:
            return self._without_values(text, begin.start())
        return text

    def _without_values(self, text: str, position: int) -> str:
        # Of a value that is shown the parameters in it are looked at as well: it may be a URL.
        parts: list[str] = []
        shown = 0
        while (name := _PARAMETER.search(text, position)) is not None:
            position = name.end()
            if self.hides(unquote(name["name"][-_LONGEST:])):
                value = _VALUE.match(text, position)
                if value is not None and value.end() > position:
                    parts += (text[shown:position], REDACTED)
                    shown = position = value.end()
        parts.append(text[shown:])
        return "".join(parts)

    def clean_value(self, text: str) -> str:
        """As ``clean``, and without credentials that say of themselves that they are (``Bearer …``)."""
        return self.clean(_SCHEME.sub(rf"\g<scheme> {REDACTED}", text))


def _set(names: Sequence[str]) -> frozenset[str]:
    return frozenset(normalised_name(name).replace("-", "") for name in names)


DEFAULT_SECRETS: Final = SecretNames()
