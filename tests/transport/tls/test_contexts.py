from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.transport.tls.kit import authority, certificate, issued
from xproxy.transport.tls.contexts import (
    Certificate,
    ClientCertificates,
    TlsOptionsError,
    client_context,
    server_context,
    signature,
)


def server(mine: Certificate, client: ClientCertificates | None = None) -> ssl.SSLContext:
    return server_context(
        mine,
        client=client or ClientCertificates(),
        alpn=["h2"],
        versions=("1.2", "1.3"),
        ciphers="",
        key_log=None,
    )


def test_the_names_of_a_certificate() -> None:
    assert certificate("a.test", "*.b.test", "10.0.0.1").server_names() == ("a.test", "*.b.test")
    old = authority().issue(common_name="old.test", file="old")
    assert Certificate(str(old.cert), str(old.key)).server_names() == ("old.test",)
    assert Certificate("nowhere", "nowhere", ("given.test",)).server_names() == ("given.test",)


def test_only_forward_secret_aeads_by_default() -> None:
    names = {cipher["name"] for cipher in server(certificate()).get_ciphers()}
    assert all(n.startswith(("TLS_", "ECDHE-")) for n in names)
    assert all("GCM" in n or "CHACHA20" in n for n in names)
    assert len(names) >= 8


def test_what_is_switched_off() -> None:
    options = server(certificate()).options
    assert options & ssl.OP_NO_RENEGOTIATION
    assert options & ssl.OP_NO_COMPRESSION


@pytest.mark.parametrize("text", ["", "no certificate\n"])
def test_a_certificate_that_is_none(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text(text)
    mine = Certificate(str(broken), str(issued().key))
    with pytest.raises(TlsOptionsError, match=r"broken\.pem"):
        mine.server_names()
    with pytest.raises(TlsOptionsError, match=r"broken\.pem with .*edge\.test\.key"):
        server(mine)


def test_a_key_with_a_passphrase_is_refused_and_never_asked_for(tmp_path: Path) -> None:
    key = tmp_path / "locked.key"
    key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(TlsOptionsError, match="passphrase, which cannot be asked for"):
        server(Certificate(str(issued().cert), str(key)))


def test_client_certificates_need_an_authority() -> None:
    with pytest.raises(TlsOptionsError, match="no ca says who signs them"):
        server(certificate(), ClientCertificates(mode="require"))
    with pytest.raises(TlsOptionsError, match=r"missing\.pem"):
        server(certificate(), ClientCertificates(mode="request", ca="missing.pem"))


def test_a_client_verifies_unless_told_otherwise() -> None:
    def made(verify: bool, check_name: bool) -> ssl.SSLContext:
        return client_context(
            ca=str(authority().ca),
            verify=verify,
            check_name=check_name,
            certificate=None,
            alpn=(),
            versions=("1.2", "1.3"),
            ciphers="",
            key_log=None,
        )

    assert made(True, True).check_hostname
    assert made(True, False).verify_mode is ssl.CERT_REQUIRED
    assert made(False, True).verify_mode is ssl.CERT_NONE


def test_a_signature_changes_with_its_files(tmp_path: Path) -> None:
    file = tmp_path / "file"
    names = [str(file)]
    seen = [signature(names)]
    file.write_text("one")
    seen.append(signature(names))
    file.write_text("other")
    seen.append(signature(names))
    fresh = tmp_path / "fresh"
    fresh.write_text("other")
    os.utime(fresh, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    os.replace(fresh, file)
    seen.append(signature(names))
    assert len({str(one) for one in seen}) == 4
    assert signature(names) == seen[-1]
