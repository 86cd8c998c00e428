"""Which alert goes with which failure is shown by the handshakes of ``test_server`` and ``test_client``."""

from __future__ import annotations

import ssl

import pytest

from xproxy.transport.tls.alerts import Alert, TlsError, alert_record, failure_of


def test_an_alert_in_clear() -> None:
    assert alert_record(Alert.DECODE_ERROR) == bytes.fromhex("15030300020232")
    assert Alert.NO_APPLICATION_PROTOCOL.label == "no_application_protocol"


def failure(reason: str | None, text: str = "") -> ssl.SSLError:
    error = ssl.SSLError(1, text)
    error.reason = reason  # type: ignore[assignment]  # Python itself leaves None there
    return error


@pytest.mark.parametrize(
    ("error", "sent", "received", "alert", "heard"),
    [
        (failure("NO_SHARED_CIPHER"), alert_record(Alert.HANDSHAKE_FAILURE), b"", 40, False),
        (failure("NO_SHARED_CIPHER"), b"\x17\3\3\0\1x", b"", 40, False),
        (failure("NO_SHARED_CIPHER"), b"", b"", None, False),
        (failure("ANYTHING"), b"", alert_record(Alert.UNKNOWN_CA), 48, True),
        (failure("TLSV13_ALERT_CERTIFICATE_REQUIRED"), b"", b"\x17\3\3\0\1x", 116, True),
        (failure("SSLV3_ALERT_BAD_CERTIFICATE"), b"", b"", 42, True),
        (failure("TLSV1_UNRECOGNIZED_NAME"), b"", b"", 112, True),
        (
            failure(None, "[SSL] tlsv1 alert no application protocol (_ssl.c:1)"),
            b"",
            b"",
            120,
            True,
        ),
        (failure(None), b"", b"", None, False),
    ],
)
def test_failures(
    error: ssl.SSLError, sent: bytes, received: bytes, alert: int | None, heard: bool
) -> None:
    found = failure_of(error, sent=sent, received=received)
    assert (found.alert, found.received) == (alert, heard)
    assert found.detail
    assert "(_ssl.c" not in found.detail


def test_an_error_says_what_it_knows() -> None:
    error = TlsError("why", Alert.ACCESS_DENIED)
    assert (str(error), error.alert, error.received, error.before) == ("why", 49, False, b"")
