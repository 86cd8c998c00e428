"""Keys of a TLS session from the secrets that the key log tells: RFC 8446 §7 (TLS 1.3), RFC 5246 §6.3 (TLS 1.2)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

TLS12: Final = "TLSv1.2"
TLS13: Final = "TLSv1.3"

WANTED: Final = frozenset({"CLIENT_RANDOM", "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"})
"""Labels of the key log that continuing a session needs."""

IV_BYTES: Final = 12
SALT_BYTES: Final = 4
"""Of a TLS 1.2 AES-GCM nonce: the part that is not sent (RFC 5288 §3)."""

AeadKey: TypeAlias = AESGCM | ChaCha20Poly1305


@attrs.frozen
class Suite:
    """An AEAD and a hash: all that continuing a session needs of its cipher suite."""

    key_bytes: int
    hash: str
    """By ``hashlib``'s name."""
    chacha: bool = False

    def aead(self, key: bytes) -> AeadKey:
        """Return the AEAD with this key."""
        return ChaCha20Poly1305(key) if self.chacha else AESGCM(key)


_TLS13_SUITES: Final[Mapping[str, Suite]] = {
    "TLS_AES_128_GCM_SHA256": Suite(16, "sha256"),
    "TLS_AES_256_GCM_SHA384": Suite(32, "sha384"),
    "TLS_CHACHA20_POLY1305_SHA256": Suite(32, "sha256", chacha=True),
}
_TLS12_SUITES: Final[Mapping[str, Suite]] = {
    "AES128-GCM-SHA256": Suite(16, "sha256"),
    "AES256-GCM-SHA384": Suite(32, "sha384"),
    "CHACHA20-POLY1305": Suite(32, "sha256", chacha=True),
}


def suite_of(version: str, cipher: str) -> Suite | None:
    """Return the suite by OpenSSL's names; None for one whose sessions cannot be continued here."""
    if version == TLS13:
        return _TLS13_SUITES.get(cipher)
    if version == TLS12:
        return next((s for end, s in _TLS12_SUITES.items() if cipher.endswith(end)), None)
    return None


def overhead_of(version: str, suite: Suite | None) -> int:
    """Return what a record is longer than its plaintext, in bytes; -1 where that is not fixed."""
    if suite is None:
        return -1
    if version == TLS13:
        return 5 + 1 + 16
    return 5 + 16 if suite.chacha else 5 + 8 + 16


def expand_label(secret: bytes, label: bytes, length: int, hash_name: str) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 §7.1), for a length of one hash at most."""
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0"
    return hmac.digest(secret, info + b"\1", hash_name)[:length]


def next_secret(secret: bytes, suite: Suite) -> bytes:
    """Return the traffic secret after a KeyUpdate (RFC 8446 §7.2)."""
    return expand_label(secret, b"traffic upd", len(secret), suite.hash)


def traffic_key(secret: bytes, suite: Suite) -> tuple[bytes, bytes]:
    """Return key and IV of a traffic secret (RFC 8446 §7.3)."""
    return (
        expand_label(secret, b"key", suite.key_bytes, suite.hash),
        expand_label(secret, b"iv", IV_BYTES, suite.hash),
    )


def prf(secret: bytes, label: bytes, seed: bytes, length: int, hash_name: str) -> bytes:
    """Return TLS 1.2's pseudo-random function of ``secret`` (RFC 5246 §5)."""
    seed = label + seed
    found = b""
    block = seed
    while len(found) < length:
        block = hmac.digest(secret, block, hash_name)
        found += hmac.digest(secret, block + seed, hash_name)
    return found[:length]


def iv_bytes(suite: Suite) -> int:
    """Return the length of what TLS 1.2's key block holds for nonces."""
    return IV_BYTES if suite.chacha else SALT_BYTES


def key_block(
    master: bytes, client_random: bytes, server_random: bytes, suite: Suite
) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """Return key and IV of the client's writing, and of the server's (RFC 5246 §6.3, AEAD: no MAC keys)."""
    iv = iv_bytes(suite)
    key = suite.key_bytes
    block = prf(master, b"key expansion", server_random + client_random, 2 * (key + iv), suite.hash)
    return (
        (block[:key], block[2 * key : 2 * key + iv]),
        (block[key : 2 * key], block[2 * key + iv :]),
    )


def hash_bytes(suite: Suite) -> int:
    """Return the length of the suite's secrets."""
    return hashlib.new(suite.hash).digest_size


def read_key_log(text: bytes) -> dict[str, tuple[bytes, bytes]]:
    """Return client random and secret by label, from lines in the NSS key log format, of the labels in WANTED."""
    found = {}
    for line in text.decode("ascii", "replace").splitlines():
        label, _, rest = line.partition(" ")
        if label not in WANTED:
            continue
        client_random, _, secret = rest.partition(" ")
        try:
            found[label] = (bytes.fromhex(client_random), bytes.fromhex(secret))
        except ValueError:
            continue
    return found
