"""Alerts (RFC 8446 §6, RFC 5246 §7.2) and the error that carries one."""

from __future__ import annotations

import enum
import ssl
from collections.abc import Mapping
from typing import Final

from xproxy.model.errors import XproxyError


class Alert(enum.IntEnum):
    """What one peer tells the other when it gives up, by its number on the wire."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    NO_RENEGOTIATION = 100
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    BAD_CERTIFICATE_STATUS_RESPONSE = 113
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120

    @property
    def label(self) -> str:
        """The name as RFCs write it."""
        return self.name.lower()


class TlsError(XproxyError):
    """A handshake failed, or a record was not what the session allows."""

    def __init__(self, detail: str, alert: Alert | None = None, *, received: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        """Short, and free of what the peer sent."""
        self.alert = alert
        """What was told to the peer, or by it; None: nothing was, or it is not known."""
        self.received = received
        """The alert came from the peer; else it was sent."""
        self.before = b""
        """Application data of the good records before the one at fault."""
        self.told = False
        """Whatever there was to tell the peer has been written."""


_FATAL: Final = 2


def alert_record(alert: Alert) -> bytes:
    """Return a fatal alert in clear, as it may be sent before any key is agreed on."""
    return bytes((21, 3, 3, 0, 2, _FATAL, alert))


_OF_VERIFICATION: Final[Mapping[int, Alert]] = {
    # X509_V_ERR_… as OpenSSL turns them into alerts (ssl/statem/statem_lib.c has the same table).
    2: Alert.UNKNOWN_CA,
    9: Alert.BAD_CERTIFICATE,
    10: Alert.CERTIFICATE_EXPIRED,
    18: Alert.UNKNOWN_CA,
    19: Alert.UNKNOWN_CA,
    20: Alert.UNKNOWN_CA,
    21: Alert.UNKNOWN_CA,
    22: Alert.UNKNOWN_CA,
    23: Alert.CERTIFICATE_REVOKED,
    24: Alert.UNKNOWN_CA,
    26: Alert.UNSUPPORTED_CERTIFICATE,
    62: Alert.BAD_CERTIFICATE,
    64: Alert.BAD_CERTIFICATE,
}
_OF_REASON: Final[Mapping[str, Alert]] = {
    "UNSUPPORTED_PROTOCOL": Alert.PROTOCOL_VERSION,
    "NO_PROTOCOLS_AVAILABLE": Alert.PROTOCOL_VERSION,
    "WRONG_VERSION_NUMBER": Alert.PROTOCOL_VERSION,
    "VERSION_TOO_LOW": Alert.PROTOCOL_VERSION,
    "NO_SHARED_CIPHER": Alert.HANDSHAKE_FAILURE,
    "NO_SUITABLE_KEY_SHARE": Alert.HANDSHAKE_FAILURE,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": Alert.HANDSHAKE_FAILURE,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": Alert.HANDSHAKE_FAILURE,
    "INAPPROPRIATE_FALLBACK": Alert.INAPPROPRIATE_FALLBACK,
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": Alert.BAD_RECORD_MAC,
    "UNEXPECTED_MESSAGE": Alert.UNEXPECTED_MESSAGE,
    "BAD_SIGNATURE": Alert.DECRYPT_ERROR,
    "DIGEST_CHECK_FAILED": Alert.DECRYPT_ERROR,
}
_BY_NAME: Final[Mapping[str, Alert]] = {alert.name: alert for alert in Alert}


def _plain(record: bytes) -> Alert | None:
    if len(record) == 7 and record[0] == 21 and record[6] in Alert.__members__.values():
        return Alert(record[6])
    return None


def _reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in capitals, also one that Python has no name for."""
    if error.reason:
        return error.reason
    text = str(error.args[1]) if len(error.args) > 1 else ""
    return text.removeprefix("[SSL] ").partition(" (")[0].upper().replace(" ", "_")


PLAINTEXT: Final = "the peer does not speak TLS: its answer is none"
"""What is wrong where the first bytes are of no record of TLS."""
_FIRST_RECORD: Final = 20
_LAST_RECORD: Final = 24  # RFC 8446 §5.1, RFC 6520


def failure_of(error: ssl.SSLError, *, sent: bytes = b"", received: bytes = b"") -> TlsError:
    """Return the error for a handshake that OpenSSL gave up.

    ``sent`` are the bytes it left for the peer, ``received`` the last record from it. Alerts under TLS 1.3 are
    encrypted: then OpenSSL's reason says which it was.
    """
    reason = _reason(error)
    if (heard := _plain(received)) is not None:
        return TlsError(f"the peer ended the handshake: {heard.label}", heard, received=True)
    if reason.startswith(("SSLV3_ALERT_", "TLSV1_", "TLSV13_ALERT_")):
        name = reason.partition("_")[2].removeprefix("ALERT_")
        heard = _BY_NAME.get(name)
        return TlsError(f"the peer ended the handshake: {name.lower()}", heard, received=True)
    alert = _plain(sent[-7:])
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = f"the peer's certificate is not accepted: {error.verify_message}"
        alert = alert or _OF_VERIFICATION.get(error.verify_code, Alert.CERTIFICATE_UNKNOWN)
    elif reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        detail = "the peer sent no certificate"
        alert = Alert.CERTIFICATE_REQUIRED if sent[:1] == b"\x17" else alert or _OF_REASON[reason]
    elif received and not _FIRST_RECORD <= received[0] <= _LAST_RECORD:
        detail = PLAINTEXT
        alert = alert or (_OF_REASON.get(reason) if sent else None)
    else:
        detail = f"TLS: {reason.replace('_', ' ').lower() or 'the connection ended'}"
        alert = alert or (_OF_REASON.get(reason) if sent else None)
    return TlsError(detail, alert)
