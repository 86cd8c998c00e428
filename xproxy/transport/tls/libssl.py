"""The few functions of OpenSSL that the standard library does not offer, called in the very library that it uses.

A context's address is read from where CPython keeps it. So nothing here is called before it was seen, on a context of
its own, that the address is right; where that cannot be seen, ``LibsslUnusable`` says why and nothing is touched.
"""

from __future__ import annotations

import _ssl
import ctypes
import functools
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from xproxy.model.errors import XproxyError

_CTRL_SET_SESS_CACHE_MODE: Final = 44
_CTRL_SET_TLSEXT_TICKET_KEY_CB: Final = 72
_SESS_CACHE_OFF: Final = 0

_UNKNOWN_KEY: Final = 0
_SEALED_OR_OPENED: Final = 1
_OPENED_RENEW: Final = 2
_FAILED: Final = -1

_Simple: TypeAlias = type[Any]  # Any: ctypes has no common public type of its types

KEY_NAME_BYTES: Final = 16
IV_BYTES: Final = 16


class LibsslUnusable(XproxyError):
    """OpenSSL cannot be reached in a safe way."""


# int (*)(SSL *, unsigned char name[16], unsigned char iv[16], EVP_CIPHER_CTX *, HMAC_CTX *, int sealing)
_TicketCallback = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
)


# void (*)(const SSL *, const char *line)
_KeyLogCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)


class Libssl:
    """The functions, with their types. Made once, by ``libssl``."""

    def __init__(self, library: ctypes.CDLL) -> None:
        void, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        self._get_options = _function(library, "SSL_CTX_get_options", ctypes.c_uint64, [void])
        self._ctrl = _function(
            library, "SSL_CTX_ctrl", ctypes.c_long, [void, number, ctypes.c_long, void]
        )
        self._callback_ctrl = _function(
            library, "SSL_CTX_callback_ctrl", ctypes.c_long, [void, number, _TicketCallback]
        )
        self._set_keylog = _function(
            library, "SSL_CTX_set_keylog_callback", None, [void, _KeyLogCallback]
        )
        self._aes = _function(library, "EVP_aes_256_cbc", void, [])()
        self._sha256 = _function(library, "EVP_sha256", void, [])()
        cipher_init = [void, void, void, text, void]
        self._encrypt_init = _function(library, "EVP_EncryptInit_ex", number, cipher_init)
        self._decrypt_init = _function(library, "EVP_DecryptInit_ex", number, cipher_init)
        self._hmac_init = _function(
            library, "HMAC_Init_ex", number, [void, text, number, void, void]
        )
        self._random = _function(library, "RAND_bytes", number, [void, number])

    def address_of(self, context: ssl.SSLContext) -> int:
        """Return the address of the SSL_CTX, which follows the object's head. Raises LibsslUnusable."""
        address = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
        if not address or address % ctypes.alignment(ctypes.c_void_p):
            raise LibsslUnusable("an SSLContext does not hold its SSL_CTX where it should")
        if self._get_options(address) & 0xFFFFFFFF != int(context.options) & 0xFFFFFFFF:
            raise LibsslUnusable("an SSLContext's SSL_CTX has other options than itself")
        return address

    def without_session_cache(self, context: ssl.SSLContext) -> None:
        """Let ``context`` keep no sessions in memory."""
        self._ctrl(self.address_of(context), _CTRL_SET_SESS_CACHE_MODE, _SESS_CACHE_OFF, None)

    def use_ticket_keys(
        self, context: Context, keys: Callable[[], Mapping[bytes, TicketKey]]
    ) -> None:
        """Seal tickets with the first key, open them with any. Raises LibsslUnusable.

        ``keys`` is asked at each ticket for those of the handshake under way, by name. Never empty.
        """
        callback = _TicketCallback(self._ticket_callback(keys))
        address = self.address_of(context)
        if not self._callback_ctrl(address, _CTRL_SET_TLSEXT_TICKET_KEY_CB, callback):
            raise LibsslUnusable("OpenSSL refuses a callback for ticket keys")
        context.kept_alive += (callback,)

    def use_key_log(self, context: Context, write: Callable[[bytes], object]) -> None:
        """Give ``write`` each line of the key log. Raises LibsslUnusable."""

        def taken(_ssl_address: int | None, line: bytes) -> None:
            write(line)

        callback = _KeyLogCallback(taken)
        self._set_keylog(self.address_of(context), callback)
        context.kept_alive += (callback,)

    def _ticket_callback(
        self, keys: Callable[[], Mapping[bytes, TicketKey]]
    ) -> Callable[[int | None, int | None, int | None, int | None, int | None, int], int]:
        def callback(
            _ssl_address: int | None,
            name: int | None,
            iv: int | None,
            cipher: int | None,
            mac: int | None,
            sealing: int,
        ) -> int:
            assert name is not None
            assert iv is not None
            by_name = keys()
            first = next(iter(by_name.values()))
            if sealing:
                if self._random(iv, IV_BYTES) != 1:
                    return _FAILED
                ctypes.memmove(name, first.name, KEY_NAME_BYTES)
                key, init = first, self._encrypt_init
            else:
                found = by_name.get(ctypes.string_at(name, KEY_NAME_BYTES))
                if found is None:
                    return _UNKNOWN_KEY
                key, init = found, self._decrypt_init
            if (
                self._hmac_init(mac, key.mac, len(key.mac), self._sha256, None) != 1
                or init(cipher, self._aes, None, key.cipher, iv) != 1
            ):
                return _FAILED
            return _SEALED_OR_OPENED if key is first else _OPENED_RENEW

        return callback


class Context(ssl.SSLContext):
    """A context that keeps alive what OpenSSL may call for it."""

    kept_alive: tuple[object, ...] = ()


class TicketKey:
    """Three keys in one file, as nginx and OpenSSL have them: a name, one for the MAC, one for the cipher."""

    __slots__ = ("cipher", "mac", "name")

    def __init__(self, data: bytes) -> None:
        self.name = data[:16]
        self.mac = data[16:48]
        self.cipher = data[48:80]


def _function(
    library: ctypes.CDLL, name: str, result: _Simple | None, arguments: Sequence[_Simple]
) -> Callable[..., int]:
    try:
        function = library[name]
    except AttributeError as exc:
        raise LibsslUnusable(f"this Python's OpenSSL does not show {name}") from exc
    function.restype = result
    function.argtypes = list(arguments)
    return function


@functools.cache
def libssl() -> Libssl:
    """Return the functions, after a try on a context of our own. Raises LibsslUnusable."""
    if sys.implementation.name != "cpython" or hasattr(sys, "gettotalrefcount"):
        raise LibsslUnusable(
            "only CPython's ordinary build is known to keep an SSL_CTX where it is looked for"
        )
    file = getattr(_ssl, "__file__", None)
    try:
        # The module's own handle: symbols are looked up in the libraries that it was linked with.
        found = Libssl(ctypes.CDLL(file))
    except OSError as exc:
        raise LibsslUnusable(f"this Python's _ssl cannot be opened: {exc}") from exc
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for options in (ssl.OP_ALL, ssl.OP_ALL | ssl.OP_NO_TICKET):
        # Two settings, both read back: no accident looks like that.
        probe.options = options
        found.address_of(probe)
    return found
