"""TLS with real clients and servers: openssl, curl, nginx, a mail client; certificates that change, and floods."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.certificates import Authority
from tests.process.product import PATIENCE, Product, eventually, product, unused_port
from tests.process.upstreams import connected, upstream

pytestmark = pytest.mark.slow

NAME: Final = "edge.test"
GET: Final = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path, "ca")
    made.issue(NAME, file="edge")
    made.issue("other.test", file="other")
    made.issue("client.test", file="client")
    return made


@contextmanager
def secured(
    work: Path, *keys: str, cluster: str = "", listener: str = "", routes: str = ""
) -> Iterator[Product]:
    """Run a proxy with a certificate for NAME before a web server."""
    tls = ", ".join(["certificates: [{cert: edge.pem, key: edge.key}]", *keys])
    with upstream("web") as web:
        text = (
            "listeners:\n"
            "  - name: edge\n"
            "    address: 127.0.0.1:0\n"
            "    routes: main\n"
            f"    tls: {{{tls}}}\n{listener}"
            f"routes:\n  main:\n{routes}    - cluster: web\n"
            f"clusters:\n  web: {{endpoints: ['127.0.0.1:{web}'], codec: http1}}\n{cluster}"
        )
        with product(text, work) as found:
            yield found


def s_client(port: int, work: Path, *arguments: str, name: str = NAME, data: bytes = b"") -> str:
    """Run openssl's client; returns all that it says."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name]
    command += ["-CAfile", str(work / "ca.pem"), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(data)
        process.stdin.flush()
        said = b""
        # With its standard input at its end it would leave before it has read the answer, or the tickets.
        while data and (line := process.stdout.readline()):
            said += line
            if line.endswith(b" /x\n"):
                break
        process.stdin.close()
        said += process.stdout.read()
    return said.decode("latin-1")


def curl(work: Path, port: int, *arguments: str, scheme: str = "https") -> str:
    """Run curl; returns what it prints."""
    command = ["curl", "-sS", "--max-time", "200", "--cacert", str(work / "ca.pem"), *arguments]
    command += ["--resolve", f"{NAME}:{port}:127.0.0.1", f"{scheme}://{NAME}:{port}/x"]
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("latin-1")


def failures(proxy: Product) -> list[str]:
    return [line for line in proxy.said().splitlines() if "TLS handshake failed" in line]


# ---- clients


@pytest.mark.tool("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_talks_to_us(version: str, tmp_path: Path, authority: Authority) -> None:
    with secured(tmp_path) as proxy:
        said = s_client(proxy.port, tmp_path, version, data=GET)
        assert "Verify return code: 0 (ok)" in said
        assert "HTTP/1.1 200 OK" in said
        assert said.count(version.replace("-tls1_", "TLSv1.")) >= 1
        proxy.settled()


@pytest.mark.tool("curl")
def test_curl_by_every_way_on_one_port(tmp_path: Path, authority: Authority) -> None:
    with secured(tmp_path, listener="    filters: [forwarded]\n") as proxy:
        for arguments, scheme, expected in (
            (["--http1.1"], "https", "HTTP/1.1 200"),
            (["--http2"], "https", "HTTP/2 200"),
            (["--http2", "--tls-max", "1.2"], "https", "HTTP/2 200"),
            (["--http1.1"], "http", "HTTP/1.1 200"),
            (["--http2-prior-knowledge"], "http", "HTTP/2 200"),
        ):
            answer = curl(tmp_path, proxy.port, "-i", *arguments, scheme=scheme)
            assert answer.startswith(expected), (arguments, answer)
            assert answer.endswith(" /x\n")
        assert proxy.stat("listener.edge.downstream_tls_handshakes") == 3
        assert proxy.said() == ""
        proxy.settled()


@pytest.mark.tool("openssl")
@pytest.mark.parametrize(
    ("keys", "arguments", "name", "alert"),
    [
        ("min_version: TLSv1.3", ["-tls1_2"], NAME, 70),
        ("max_version: TLSv1.2", ["-tls1_3"], NAME, 70),
        ("unknown_names: refuse", [], "wrong.test", 112),
        ("mode: strict", ["-alpn", "nothing"], NAME, 120),
        ("client_certificates: {mode: require, ca: ca.pem}", ["-tls1_3"], NAME, 116),
        ("client_certificates: {mode: require, ca: ca.pem}", ["-tls1_2"], NAME, 40),
        (
            "client_certificates: {mode: require, ca: ca.pem, sans: ['*.clients.test']}",
            ["-tls1_3", "-cert", "client.pem", "-key", "client.key"],
            NAME,
            None,
        ),
    ],
)
def test_a_refusal_is_the_right_alert_and_one_line(
    keys: str,
    arguments: list[str],
    name: str,
    alert: int | None,
    tmp_path: Path,
    authority: Authority,
) -> None:
    with secured(tmp_path, keys) as proxy:
        arguments = [str(tmp_path / a) if a.startswith("client.") else a for a in arguments]
        said = s_client(proxy.port, tmp_path, *arguments, name=name, data=GET)
        assert "200 OK" not in said
        if alert is not None:
            assert f"alert number {alert}" in said
        else:
            assert "alert" in said
        eventually(lambda: len(failures(proxy)) == 1, f"one line: {proxy.said()}")
        proxy.settled()
        (failed,) = [n for n in proxy.stats() if ".downstream_tls_failed." in n]
        assert proxy.stat(failed) == 1


@pytest.mark.tool("curl")
def test_a_client_is_known_by_its_certificate(tmp_path: Path, authority: Authority) -> None:
    keys = "client_certificates: {mode: require, ca: ca.pem, sans: [client.test]}"
    template = "%sni% %peer_identity% %tls_version%"
    log = f"    filters: [{{name: access_log, path: stderr, template: '{template}'}}]\n"
    routes = "    - {match: {peer_identity: client.test, sni: edge.test}, cluster: web}\n"
    routes += "    - filters: [{name: direct_response, body: no}]\n"
    with secured(tmp_path, keys, listener=log, routes=routes) as proxy:
        own = ["--cert", str(tmp_path / "client.pem"), "--key", str(tmp_path / "client.key")]
        assert curl(tmp_path, proxy.port, *own).endswith(" /x\n")
        eventually(lambda: "edge.test client.test TLSv1.3" in proxy.said(), proxy.said())


# ---- sessions


@pytest.mark.tool("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_session_outlives_a_restart_where_the_keys_do(
    version: str, shared: bool, tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "tickets").write_bytes(bytes(range(80)))
    keys = ["ticket_keys: [tickets]"] if shared else []
    session = str(tmp_path / "session")
    with secured(tmp_path, *keys) as proxy:
        assert "New, TLSv1" in s_client(
            proxy.port, tmp_path, version, "-sess_out", session, data=GET
        )
    with secured(tmp_path, *keys) as proxy:
        said = s_client(proxy.port, tmp_path, version, "-sess_in", session, data=GET)
        assert ("Reused, TLSv1" if shared else "New, TLSv1") in said
        assert "200 OK" in said
        assert proxy.stat("listener.edge.downstream_tls_resumed") == int(shared)


@pytest.mark.tool("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_session_does_not_resume_under_another_name(
    version: str, shared: bool, tmp_path: Path, authority: Authority
) -> None:
    """RFC 6066 §3; with certificates of their own, and with one for both names."""
    (tmp_path / "tickets").write_bytes(bytes(range(80)))
    keys = ["ticket_keys: [tickets]"] if shared else []
    session = str(tmp_path / "session")
    with secured(tmp_path, *keys) as proxy:

        def said(name: str, *arguments: str) -> str:
            told = s_client(proxy.port, tmp_path, version, *arguments, name=name, data=GET)
            assert "200 OK" in told
            return told

        assert "New, TLSv1" in said(NAME, "-sess_out", session)
        assert "New, TLSv1" in said("other.test", "-sess_in", session)
        assert "New, TLSv1" in said("unknown.test", "-sess_in", session)
        assert "Reused, TLSv1" in said(NAME, "-sess_in", session)
        assert proxy.stat("listener.edge.downstream_tls_resumed") == 1


# ---- certificates that change


class Visitors:
    """Clients that connect again and again; remembers which certificates they saw, and what went wrong."""

    def __init__(self, port: int, ca: Path) -> None:
        self.seen: set[int] = set()
        self.wrong: list[Exception] = []
        self.visits = 0
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _ in range(3)]

    def _visit(self) -> None:
        while not self._over.is_set():
            try:
                with (
                    socket.create_connection(("127.0.0.1", self._port), PATIENCE) as tcp,
                    self._context.wrap_socket(tcp, server_hostname=NAME) as secure,
                ):
                    secure.sendall(GET)
                    assert secure.recv(65536).startswith(b"HTTP/1.1 200 OK")
                    certificate = secure.getpeercert() or {}
                    self.seen.add(int(str(certificate["serialNumber"]), 16))
                    self.visits += 1
            except (OSError, AssertionError) as exc:
                self.wrong.append(exc)

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_certificates_change_under_load_and_nobody_notices(
    tmp_path: Path, authority: Authority
) -> None:
    with (
        secured(tmp_path, "reload_interval: 100ms") as proxy,
        Visitors(proxy.port, authority.ca) as visitors,
    ):

        def told() -> int:
            return proxy.said().count("the old certificates stay in use")

        for _ in range(2):
            before = len(visitors.seen)
            authority.issue(NAME, file="edge")
            eventually(lambda: len(visitors.seen) > before, "another certificate")  # noqa: B023  # called here
        visits = visitors.visits
        before = (
            told()
        )  # it may have looked between the writing of a certificate and that of its key
        (tmp_path / "edge.key").write_text("broken")
        eventually(lambda: told() > before, "the broken key is refused")
        eventually(lambda: visitors.visits > visits + 20, "the old one serves on")
        assert visitors.wrong == []
        assert len(visitors.seen) >= 2
        assert told() == before + 1


def test_sighup_takes_up_files_too_and_refuses_broken_ones(
    tmp_path: Path, authority: Authority
) -> None:
    with (
        secured(tmp_path, "reload_interval: 0") as proxy,
        Visitors(proxy.port, authority.ca) as visitors,
    ):
        eventually(lambda: len(visitors.seen) == 1, "the first certificate")
        authority.issue(NAME, file="edge")
        proxy.process.send_signal(1)
        eventually(lambda: len(visitors.seen) == 2, "the second one")
        (tmp_path / "edge.pem").write_text("broken")
        proxy.process.send_signal(1)
        eventually(lambda: "reload: nothing has changed" in proxy.said(), proxy.said())
        assert "holds no certificates in PEM" in proxy.said()
        visits = visitors.visits
        eventually(lambda: visitors.visits > visits + 20, "the old one serves on")
        assert visitors.wrong == []


# ---- a flood


def _first_flight() -> bytes:
    context = ssl.create_default_context()
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(into, out, server_hostname=NAME)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return out.read()


def _work(proxy: Product, seconds: float) -> float:
    """Ask over one plaintext connection, again and again; return what the proxy did until an answer: the median."""
    found = []
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            began = proxy.work()
            client.sendall(GET)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            found.append(proxy.work() - began)
    return statistics.median(found)


def test_a_flood_of_handshakes_does_not_stall_an_open_connection(
    tmp_path: Path, authority: Authority
) -> None:
    routes = "    - filters: [{name: direct_response, body: ok}]\n"
    keys = "max_handshakes: 200, handshake_timeout: 2s"
    hello = _first_flight()
    with secured(tmp_path, keys, routes=routes) as proxy:
        held: list[socket.socket] = []
        over = threading.Event()
        alone = _work(proxy, 0.5)

        def flood() -> None:
            while not over.is_set() and len(held) < 3000:
                attacker = socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)
                attacker.sendall(hello if len(held) % 4 else hello[:50])
                held.append(attacker)

        attack = threading.Thread(target=flood)
        attack.start()
        try:
            work = _work(proxy, 2.0)
        finally:
            over.set()
            attack.join()
        stats = proxy.stats()
        assert stats["listener.edge.downstream_tls_failed.overflow"] > 0
        # It waits for a few steps of handshakes at most, each some ten answers' work, whatever their number.
        assert work < 200 * alone
        for attacker in held:
            attacker.close()
        proxy.settled()


# ---- TLS that is not ended here


@pytest.mark.tool("openssl")
@pytest.mark.tool("curl")
def test_curl_reaches_a_server_through_us_with_its_own_tls(
    tmp_path: Path, authority: Authority
) -> None:
    port = unused_port()
    own = authority.issue("own.test", file="own")
    command = ["openssl", "s_server", "-accept", str(port), "-cert", str(own.cert)]
    with subprocess.Popen(
        [*command, "-key", str(own.key), "-www"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            eventually(lambda: connected(port), "openssl listens")
            routes = "    - {match: {sni: own.test}, cluster: own}\n"
            cluster = f"  own: {{endpoints: ['127.0.0.1:{port}']}}\n"
            with secured(
                tmp_path, "passthrough: [own.test]", routes=routes, cluster=cluster
            ) as proxy:
                command = ["curl", "-sS", "--max-time", "200", "--cacert", str(authority.ca)]
                command += ["--resolve", f"own.test:{proxy.port}:127.0.0.1"]
                done = subprocess.run(
                    [*command, f"https://own.test:{proxy.port}/"],
                    capture_output=True,
                    timeout=240,
                    check=False,
                )
                assert b"s_server" in done.stdout, done.stderr
                assert curl(tmp_path, proxy.port).endswith(" /x\n")
                assert proxy.stat("listener.edge.downstream_tls_passthrough") == 1
        finally:
            server.kill()


# ---- TLS to upstreams


@pytest.mark.tool("nginx")
@pytest.mark.tool("curl")
@pytest.mark.parametrize(("http2", "spoken"), [("http2", "HTTP/2.0"), ("", "HTTP/1.1")])
def test_nginx_chooses_the_protocol_and_sees_our_certificate(
    http2: str, spoken: str, tmp_path: Path, authority: Authority
) -> None:
    port = unused_port()
    folder = tmp_path / "nginx"
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n"
        f" fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f" server {{ listen 127.0.0.1:{port} ssl {http2};\n"
        f"  ssl_certificate {tmp_path}/other.pem; ssl_certificate_key {tmp_path}/other.key;\n"
        f"  ssl_client_certificate {tmp_path}/ca.pem; ssl_verify_client on;\n"
        '  location / { return 200 "$server_protocol $ssl_client_s_dn\\n"; } } }\n'
    )
    with subprocess.Popen(
        ["nginx", "-c", str(config), "-p", str(folder), "-e", f"{folder}/error.log"]
    ) as server:
        try:
            eventually(lambda: connected(port), "nginx listens")
            tls = "{ca: ca.pem, sni: other.test, cert: client.pem, key: client.key}"
            cluster = f"  nginx: {{endpoints: ['127.0.0.1:{port}'], codec: alpn, tls: {tls}}}\n"
            with secured(tmp_path, cluster=cluster, routes="    - cluster: nginx\n") as proxy:
                for arguments in (["--http1.1"], ["--http2"]):
                    answer = curl(tmp_path, proxy.port, *arguments)
                    assert answer == f"{spoken} CN=client.test\n"
                assert proxy.stat("cluster.nginx.upstream_tls_handshakes") == 1
        finally:
            server.terminate()


# ---- servers that speak first


def test_a_mail_client_and_a_browser_on_one_port(tmp_path: Path, authority: Authority) -> None:
    with upstream("mail") as mail:
        silent = "    server_first: {cluster: mail, wait: 2s}\n"
        cluster = f"  mail: {{endpoints: ['127.0.0.1:{mail}']}}\n"
        with secured(tmp_path, listener=silent, cluster=cluster) as proxy:
            times: list[float] = []
            # Where it is known who listens first nobody waits so long: not every time, however busy the machine is.
            while len(times) < 2 or (times[-1] >= 2.0 and len(times) < 10):
                began = time.monotonic()
                with smtplib.SMTP("127.0.0.1", proxy.port, timeout=PATIENCE) as client:
                    assert client.noop() == (250, b"fine")
                times.append(time.monotonic() - began)
                with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as web:
                    web.sendall(GET)
                    assert web.recv(65536).startswith(b"HTTP/1.1 200 OK")
            assert times[0] >= 2.0
            assert times[-1] < 2.0, "the destination is remembered"
            context = ssl.create_default_context(cafile=str(authority.ca))
            with (
                socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as tcp,
                context.wrap_socket(tcp, server_hostname=NAME) as secure,
            ):
                assert re.match(rb"220 ", secure.recv(65536)), "inside TLS too"
            assert proxy.stat("listener.edge.downstream_cx_silent") == len(times) + 1
            assert proxy.said() == ""
