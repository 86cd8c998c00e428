"""The certificate that all contenders with TLS present: self-signed, ECDSA on P-256, made once a run."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "bench.test"


@attrs.frozen(kw_only=True)
class Certificate:
    """Two PEM files."""

    chain: Path
    key: Path


def certificate(work: Path) -> Certificate:
    """Return the certificate of this run, for ``bench.test`` and 127.0.0.1; made when first asked for."""
    found = Certificate(chain=work / "certificate.pem", key=work / "key.pem")
    if found.chain.exists():
        return found
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    found.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    found.chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return found
