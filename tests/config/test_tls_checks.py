"""What `xproxy check` says of ``tls:`` mappings, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certificates import Authority
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text, read_text
from xproxy.registry import Registry

CERTIFICATE = "{cert: a.pem, key: a.key}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    authority = Authority(made, "ca")
    authority.issue("a.test", file="a")
    authority.issue("b.test", file="b")
    authority.issue("old.test", file="old", expired=True)
    (made / "short").write_bytes(bytes(48))
    (made / "keys").write_bytes(bytes(80))
    (made / "text").write_text("no PEM")
    return made


def text(
    listener: str = f"{{certificates: [{CERTIFICATE}]}}", cluster: str = "true", **more: str
) -> str:
    codec = more.get("codec", "same")
    return (
        f"listeners: [{{name: a, address: 'h:1', routes: r, {more.get('keys', '')}tls: {listener}}}]\n"
        "routes: {r: [{cluster: c}]}\n"
        f"clusters: {{c: {{endpoints: ['h:1'], codec: {codec}, tls: {cluster}}}}}\n"
    )


def findings(written: str, folder: Path, registry: Registry) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        load_text(written, "f", registry, folder)
    return [str(found).replace(str(folder), "DIR") for found in caught.value.findings]


@pytest.mark.parametrize(
    ("listener", "message"),
    [
        ("{}", "1:55: listeners[0].tls: needs certificates, or names to pass through"),
        (
            "{certificates: [{cert: none.pem, key: a.key}]}",
            '1:78: listeners[0].tls.certificates[0].cert: "DIR/none.pem" cannot be read: No such file or directory',
        ),
        (
            "{certificates: [{cert: text, key: a.key}]}",
            '1:78: listeners[0].tls.certificates[0].cert: "DIR/text" holds no certificates in PEM',
        ),
        (
            "{certificates: [{cert: a.pem, key: a.pem}]}",
            '1:90: listeners[0].tls.certificates[0].key: "DIR/a.pem" holds no private key in PEM',
        ),
        (
            "{certificates: [{cert: a.pem, key: b.key}]}",
            '1:90: listeners[0].tls.certificates[0].key: "b.key" is not the key of the certificate "a.pem"',
        ),
        (
            "{passthrough: [A.test]}",
            '1:70: listeners[0].tls.passthrough[0]: "A.test" is not a server name; expected a host name in lower '
            "case, *.suffix or * (did you mean `a.test`?)",
        ),
        (
            "{passthrough: a.test, client_certificates: {mode: require, ca: ca.pem}}",
            "1:98: listeners[0].tls.client_certificates: clients can only be asked for certificates where there is a "
            "certificate of ours",
        ),
        (
            f"{{certificates: [{CERTIFICATE}], client_certificates: {{mode: require, ca: ca.pem}}, "
            "mode: permissive}",
            "1:155: listeners[0].tls.mode: clients must show a certificate, and plaintext has none: leave `mode` "
            "out, or write strict (did you mean `strict`?)",
        ),
        (
            f"{{certificates: [{CERTIFICATE}], client_certificates: {{mode: require}}}}",
            "1:120: listeners[0].tls.client_certificates: key `ca` is missing",
        ),
        (
            f"{{certificates: [{CERTIFICATE}], client_certificates: {{mode: require, ca: text}}}}",
            '1:140: listeners[0].tls.client_certificates.ca: "DIR/text" holds no certificates in PEM',
        ),
        (
            f"{{certificates: [{CERTIFICATE}], ticket_keys: [keys, short]}}",
            '1:119: listeners[0].tls.ticket_keys[1]: "DIR/short" has 48 bytes, expected 80 random ones',
        ),
        (
            f"{{certificates: [{CERTIFICATE}], ticket_keys: [{', '.join(['keys'] * 17)}]}}",
            "1:112: listeners[0].tls.ticket_keys: 17 files, limit 16",
        ),
        (
            f"{{certificates: [{CERTIFICATE}], tickets: false, ticket_keys: [keys]}}",
            "1:128: listeners[0].tls.ticket_keys: tickets are switched off: there is nothing to encrypt",
        ),
        (
            f"{{certificates: [{CERTIFICATE}], min_version: TLSv1.3, max_version: TLSv1.2}}",
            "1:112: listeners[0].tls.min_version: min_version is above max_version",
        ),
        (
            f"{{certificates: [{CERTIFICATE}], min_version: 1.2}}",
            "1:112: listeners[0].tls.min_version: found the number 1.2; allowed: TLSv1.2, TLSv1.3",
        ),
    ],
)
def test_listeners(listener: str, message: str, folder: Path, registry: Registry) -> None:
    assert findings(text(listener), folder, registry) == [f"f:{message}"]


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ("{cert: a.pem}", "cert: needs `key` beside it"),
        ("{key: a.key}", "key: needs `cert` beside it"),
        (
            "{cert: a.pem, key: b.key}",
            'key: "b.key" is not the key of the certificate "a.pem"',
        ),
        ("{ca: text}", 'ca: "DIR/text" holds no certificates in PEM'),
        ("{verify: false, ca: ca.pem}", "ca: is not looked at with verify: false"),
        ("{sni: '*.test'}", 'sni: "*.test" is not a host name in lower case'),
    ],
)
def test_clusters(cluster: str, message: str, folder: Path, registry: Registry) -> None:
    (found,) = findings(text(cluster=cluster), folder, registry)
    assert found.endswith(f" clusters.c.tls.{message}")


def test_alpn_needs_tls(folder: Path, registry: Registry) -> None:
    assert load_text(text(codec="alpn"), "f", registry, folder)
    (found,) = findings(text(codec="alpn", cluster="null"), folder, registry)
    assert found.endswith("clusters.c.codec: alpn needs `tls` beside it: the choice is made there")


def test_a_unix_socket_has_no_name_to_verify(folder: Path, registry: Registry) -> None:
    unix = text().replace("endpoints: ['h:1']", "endpoints: ['unix:/run/x']")
    (found,) = findings(unix, folder, registry)
    assert 'clusters.c.tls: needs `sni` or `sans`: "unix:/run/x" has no name' in found
    for tls in ("{sni: a.test}", "{sans: a.test}", "{verify: false}"):
        assert load_text(unix.replace("tls: true", f"tls: {tls}"), "f", registry, folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            "server_first: true, ",
            "server_first: name a cluster for silent clients here, or a fallback to one",
        ),
        ("server_first: {cluster: x}, ", 'server_first.cluster: unknown cluster "x"; allowed: c'),
        (
            "server_first: {wait: 0}, fallback: {cluster: c}, ",
            "server_first.wait: must be > 0, found the number 0",
        ),
    ],
)
def test_server_first(keys: str, message: str, folder: Path, registry: Registry) -> None:
    (found,) = findings(text(keys=keys), folder, registry)
    assert found.endswith(f" listeners[0].{message}")


def test_what_is_odd(folder: Path, registry: Registry) -> None:
    odd = text(
        "{certificates: [{cert: old.pem, key: old.key}]}",
        "{verify: false, cert: old.pem, key: old.key}",
    )
    warnings = [str(found) for found in read_text(odd, "f", registry, folder).warnings]
    assert [w.partition(": ")[2][:60] for w in warnings] == [
        "listeners[0].tls.certificates[0].cert: the certificate has e",
        "clusters.c.tls.verify: whoever answers at the endpoint's add",
        "clusters.c.tls.cert: the certificate has expired on " + warnings[2][-10:-2],
    ]


def _warnings(written: str, folder: Path, registry: Registry) -> list[str]:
    return [one.message for one in read_text(written, "f", registry, folder).warnings]


def test_a_certificate_without_a_name_is_odd(folder: Path, registry: Registry) -> None:
    Authority(folder, "other").issue(file="nameless", common_name="a.test")
    named = "{certificates: [{cert: nameless.pem, key: nameless.key}]}"
    (message,) = _warnings(text(named), folder, registry)
    assert "has no subject alternative name" in message
    assert _warnings(text(), folder, registry) == []


def test_the_version_of_browsers_for_ordinary_servers_is_odd(
    folder: Path, registry: Registry
) -> None:
    plain = text().replace(", tls: true", "")
    (message,) = _warnings(plain, folder, registry)
    assert "leave `codec` out" in message
    for other in ("auto", "http1"):
        assert _warnings(plain.replace("codec: same", f"codec: {other}"), folder, registry) == []
    assert (
        _warnings(plain.replace("routes: r,", "routes: r, codecs: [http1],"), folder, registry)
        == []
    )


def test_passing_through_where_certificates_are_required_is_odd(
    folder: Path, registry: Registry
) -> None:
    listener = (
        f"{{certificates: [{CERTIFICATE}], passthrough: [b.test], "
        "client_certificates: {mode: require, ca: ca.pem}}"
    )
    (message,) = _warnings(text(listener), folder, registry)
    assert "without showing us a certificate" in message
