"""Make the certificates of the examples, for trying them out: ``python3 examples/certificates.py [FOLDER]``.

An authority (``ca.pem``), and what it has signed, valid for 30 days. Files that are there are replaced.
"""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMES: Final[dict[str, list[x509.GeneralName]]] = {
    "shop": [x509.DNSName("shop.example.org"), x509.DNSName("*.shop.example.org")],
    "api": [x509.DNSName("api.example.org")],
    "near": [x509.UniformResourceIdentifier("spiffe://example.org/near")],
    "far": [
        x509.DNSName("far.example.org"),
        x509.UniformResourceIdentifier("spiffe://example.org/far"),
    ],
}
"""By file: what each certificate says its owner is called."""
DAYS: Final = 30


def main(folder: Path) -> None:
    """Write ``ca.pem``, and a certificate and a key for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "xproxy examples")])
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _builder(authority, authority, ca_key, ca=True).sign(ca_key, hashes.SHA256())
    _write(folder / "ca.pem", ca.public_bytes(serialization.Encoding.PEM))
    for file, names in NAMES.items():
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file)])
        builder = _builder(subject, authority, key, ca=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(ca_key, hashes.SHA256())
        _write(folder / f"{file}.pem", certificate.public_bytes(serialization.Encoding.PEM))
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        _write(folder / f"{file}.key", pem)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "certs")
