"""The ``tls:`` mappings of listeners and clusters. Schema only, as ``schema.py``; nothing here touches a file."""

from __future__ import annotations

from typing import Literal

import attrs
from attrs import field
from attrs.validators import ge, gt

from xproxy.model.limits import Duration, File

Version = Literal["TLSv1.2", "TLSv1.3"]


@attrs.frozen(kw_only=True)
class CertificateConfig:
    """A certificate with its key. Both are read again when they change."""

    cert: File
    """PEM: the certificate first, then those between it and the authority that clients know."""
    key: File = field(metadata={"secret": False})  # where it is, is none
    """PEM, not encrypted."""


@attrs.frozen(kw_only=True)
class ClientCertificatesConfig:
    """Whether clients must show a certificate, and which."""

    mode: Literal["request", "require"]
    """``request``: a client may have none, but not a wrong one; ``require``: no handshake without one."""
    ca: File
    """PEM: the authorities that clients' certificates must come from."""
    sans: tuple[str, ...] = ()
    """What a client may be called: one of these must be among the certificate's subject alternative names
    (DNS, URI, e-mail, IP). ``*.suffix`` stands for one label of a DNS name, a ``*`` at the end of a URI for any rest.
    None given: any name."""


@attrs.frozen(kw_only=True)
class ListenerTlsConfig:
    """TLS on a listener: who is served with which certificate, and whose TLS is not ended here."""

    mode: Literal["permissive", "strict"] | None = None
    """``permissive``: TLS and plaintext on one port; ``strict``: plaintext is refused. Not given: strict where
    clients must show a certificate, else permissive."""
    certificates: tuple[CertificateConfig, ...] = ()
    """Chosen by the name that the client asks for (SNI), exact names before wildcards. The first one serves who asks
    for none, or for an unknown one. May be left out where ``passthrough`` is given."""
    unknown_names: Literal["default", "refuse"] = "default"
    """A name that no certificate has, or none: ``default`` serves the first one, ``refuse`` ends the handshake."""
    passthrough: tuple[str, ...] = ()
    """Names (exact, ``*.suffix``, or ``*`` for every client) whose TLS is not ended here: the connection is relayed
    as it is, as L4, through this listener's filters and routes, which can match its ``sni`` and ``alpn``."""
    client_certificates: ClientCertificatesConfig | None = None
    """None are asked for unless given."""
    min_version: Version = "TLSv1.2"
    """The oldest version spoken."""
    max_version: Version = "TLSv1.3"
    """The newest."""
    tickets: bool = True
    """Let clients resume their sessions."""
    ticket_keys: tuple[File, ...] = ()
    """Files of 80 random bytes each: sessions outlive a restart, and every process that has them resumes them. The
    first one encrypts, all decrypt. None given: keys that die with the process."""
    handshake_timeout: Duration = field(default=Duration(10.0), validator=gt(Duration(0)))
    """From the client's hello until the handshake is over, the wait for its turn included."""
    max_handshakes: int = field(default=1024, validator=ge(1))
    """Handshakes under way at a time, about 60 KiB each; as many connections may wait for their turn. Beyond that new
    ones are closed at once."""
    reload_interval: Duration = field(default=Duration(10.0), validator=ge(Duration(0)))
    """How often the files are looked at for changes. 0: only on SIGHUP."""

    @property
    def strict(self) -> bool:
        """Plaintext is refused: always where clients must show a certificate, which plaintext cannot."""
        clients = self.client_certificates
        return self.mode == "strict" or (clients is not None and clients.mode == "require")


@attrs.frozen(kw_only=True)
class ClusterTlsConfig:
    """TLS to a cluster's endpoints. ``true`` stands for the defaults."""

    verify: bool = True
    """Check the endpoint's certificate. ``false`` accepts whoever answers: for tests."""
    ca: File | None = None
    """PEM: the authorities that endpoints' certificates must come from. Default: those of the system."""
    sni: str | None = None
    """The name to ask for, which the certificate must have. Default: the endpoint's host name; an endpoint that is
    given by its IP address is asked for none, and its certificate must have the address."""
    sans: tuple[str, ...] = ()
    """Accept these names in place of the one asked for; written as in ``client_certificates``."""
    cert: File | None = None
    """PEM: the certificate to show, if asked for one."""
    key: File | None = field(default=None, metadata={"secret": False})
    """Its key: PEM, not encrypted."""
    min_version: Version = "TLSv1.2"
    """The oldest version spoken."""
    max_version: Version = "TLSv1.3"
    """The newest."""
    reload_interval: Duration = field(default=Duration(10.0), validator=ge(Duration(0)))
    """How often the files are looked at for changes. 0: only on SIGHUP."""
