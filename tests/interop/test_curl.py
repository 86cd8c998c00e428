"""curl in every version of HTTP, straight at a web server and through the proxy: it must see no difference.

Compared are the status lines (interim ones too), the fields that say something of the content, trailers, the bytes
of the body, the version spoken and how much was uploaded.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.interop.origin import FILE_BYTES, NAME, UPSTREAMS, Origin, configuration, origin
from tests.process.product import Product, product
from tests.process.upstreams import pieces

pytestmark = [pytest.mark.slow, pytest.mark.tool("curl"), pytest.mark.tool("nginx")]

WAYS: Final[dict[str, tuple[str, ...]]] = {
    "http1": ("--http1.1",),
    "http1-offers-upgrade": ("--http2",),
    "http2-prior-knowledge": ("--http2-prior-knowledge",),
    "tls-http1": ("--http1.1",),
    "tls-http2": ("--http2",),
    "tls12-http1": ("--http1.1", "--tls-max", "1.2"),
    "tls12-http2": ("--http2", "--tls-max", "1.2"),
    "tls13-http2": ("--http2", "--tlsv1.3"),
}
"""How curl speaks. An upgrade to HTTP/2 in clear text that it offers is ignored, by nginx as by us."""

CASES: Final[dict[str, tuple[str, ...]]] = {
    "get": ("/view?a=b%20c&d=/../x",),
    "fields": ("/view", "-H", "X-Test: a, b ;c", "-H", "Cookie: a=1; b=2", "-A", "somebody"),
    "head": ("/file", "-I", "-o", "/dev/null"),
    "download": ("/file",),
    "range": ("/file", "-r", "1000000-1999999"),
    "last bytes": ("/file", "-r", "-7"),
    "no such range": ("/file", "-r", "9999999-"),
    "not modified": ("/file", "-H", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"),
    "no content": ("/nothing",),
    "redirected": ("/moved", "-L"),
    "absent": ("/absent",),
    "options": ("/view", "-X", "OPTIONS"),
    "delete": ("/view", "-X", "DELETE"),
    "many large fields of a response": ("/large",),
    "a large field of a request": ("/view", "-H", f"X-Test: {'x' * 16_000}"),
    "compressed": ("/text", "--compressed"),
    "chunked": ("/up/chunked/300000",),
    "trailers": ("/trailers",),
    "empty post": ("/up/", "-d", ""),
    "post": ("/up/", "-H", "Expect:", "-d", "hello"),
    "post of a file": ("/up/", "--data-binary", "@{file}"),
    "put": ("/up/", "-T", "{file}"),
    "put without a length": ("/up/", "-T", "-"),
    "asked to continue": (
        *("/up/", "-H", "Expect: 100-continue", "--expect100-timeout", "30"),
        *("--data-binary", "@{file}"),
    ),
    "two on a connection": ("/view?1", "{url}/view?2"),
}
"""A path, and what curl is told besides."""
LEFT_OUT: Final[dict[str, tuple[str, ...]]] = {
    "asked to continue": ("http2",),
    "redirected": ("http2-prior-knowledge",),
    "two on a connection": ("http2-prior-knowledge",),
}
"""What cannot be compared, where the client's or the upstream's version is such: nginx has no 100 over HTTP/2, and
curl 7.88 breaks a connection that it uses again after prior knowledge."""

SAYS_SOMETHING: Final = (
    "accept-ranges",
    "content-encoding",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "location",
    "x-large",
)
"""Beginnings of field names. Content-Length is judged by the body: a short answer in chunks that came at once may get
one, an answer that gets trailers loses it."""


@attrs.frozen
class Seen:
    """What curl saw of one case."""

    head: tuple[str, ...]
    """Status lines without reason, fields and trailers that say something, in order; names in lower case."""
    body: bytes
    told: str
    """By curl itself: exit code, version, status, bytes uploaded, redirects."""


@pytest.fixture(scope="module")
def server() -> Iterator[Origin]:
    with origin() as found:
        yield found


@pytest.fixture(scope="module")
def proxy(server: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with product(configuration(server), tmp_path_factory.mktemp("curl")) as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("upload") / "file"
    found.write_bytes(b"".join(pieces(FILE_BYTES)))
    return found


@pytest.fixture(scope="module")
def direct(
    server: Origin, file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Seen]]:
    """What curl sees without a proxy, by way."""
    ports = {"http2-prior-knowledge": server.http2, "http1": server.plain}
    ports["http1-offers-upgrade"] = server.plain
    work = tmp_path_factory.mktemp("direct")
    return {way: every_case(way, ports.get(way, server.tls), server, file, work) for way in WAYS}


def every_case(
    way: str, port: int, server: Origin, file: Path, work: Path, to: str = ""
) -> dict[str, Seen]:
    """Let curl do every case at a port, behind which is a server of the kind ``to``."""
    said = f"{way} {to}"
    cases = {n: c for n, c in CASES.items() if not any(w in said for w in LEFT_OUT.get(n, ()))}

    def one(number: int, case: tuple[str, ...]) -> Seen:
        return curl(way, port, case, server, file, work / f"{way} {number}")

    with ThreadPoolExecutor(4) as pool:  # some wait, for what is in LEFT_OUT
        return dict(zip(cases, pool.map(one, range(len(cases)), cases.values()), strict=True))


def curl(
    way: str, port: int, case: tuple[str, ...], server: Origin, file: Path, work: Path
) -> Seen:
    """Run curl once."""
    url = f"{'https' if way.startswith('tls') else 'http'}://{NAME}:{port}"
    path, *options = (text.format(file=file, url=url) for text in case)
    head, body = work.with_suffix(".head"), work.with_suffix(".body")
    head.write_text("")
    command = [
        *("curl", "-sS", "--max-time", "200", *WAYS[way], "--cacert", str(server.authority.ca)),
        *("--resolve", f"{NAME}:{port}:127.0.0.1", "-D", str(head), "--globoff", "--path-as-is"),
        *("--expect100-timeout", "0.3"),
        *("-w", "%{http_version} %{response_code} %{size_upload} %{num_redirects}\n"),
        *(*options, f"{url}{path}"),
    ]
    with file.open("rb") as source, body.open("wb") as out:
        done = subprocess.run(
            command, stdin=source, stdout=out, stderr=subprocess.PIPE, timeout=240, check=False
        )
    told = f"exit {done.returncode} {done.stderr.decode()}"
    return Seen(significant(head.read_text("latin-1")), body.read_bytes(), told)


def significant(text: str) -> tuple[str, ...]:
    """Return what is compared of the heads and trailers that curl wrote."""
    found = []
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if line.startswith("HTTP/"):
            found.append(" ".join(line.split()[:2]))
        elif colon and name.lower().startswith(SAYS_SOMETHING):
            found.append(f"{name.lower()}:{value}")
    return tuple(sorted(found))


def differences(
    direct: dict[str, Seen], proxied: dict[str, Seen], ignored: str = ""
) -> Iterator[str]:
    """Name the cases in which something is not the same, and what; ``ignored``: a line of heads."""
    for name, mine in proxied.items():
        heads = tuple(line for line in direct[name].head if line != ignored)
        theirs = attrs.evolve(direct[name], head=heads)
        for what in ("head", "told"):
            if getattr(theirs, what) != getattr(mine, what):
                yield f"{name}: {what}: {getattr(theirs, what)} became {getattr(mine, what)}"
        if theirs.body != mine.body:
            yield f"{name}: body: {theirs.body[:100]!r} became {mine.body[:100]!r}"


@pytest.mark.parametrize("to", UPSTREAMS)
@pytest.mark.parametrize("way", WAYS)
def test_curl_sees_no_difference(
    way: str,
    to: str,
    direct: dict[str, dict[str, Seen]],
    server: Origin,
    proxy: Product,
    file: Path,
    tmp_path: Path,
) -> None:
    proxied = every_case(way, proxy.ports[f"to-{to}"], server, file, tmp_path, to)
    # nginx as an HTTP/2 server never says 100, so that there is none to pass on.
    ignored = "HTTP/1.1 100" if to.endswith("http2") else ""
    assert list(differences(direct[way], proxied, ignored)) == []


def test_nothing_is_left_behind(proxy: Product) -> None:
    proxy.settled()
    assert "Traceback" not in proxy.said()
