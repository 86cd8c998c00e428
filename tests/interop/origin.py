"""A web server that everybody knows, in every form a client may want directly: what the proxy is compared with.

nginx serves one content on three ports: HTTP/1.1, HTTP/2 in clear text, and TLS with both by ALPN. What needs a
program, uploads with their digest and chunked answers, it fetches from the upstream ``web`` of the process tests.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from tests.certificates import Authority, Issued
from tests.process.product import PATIENCE, eventually, unused_port
from tests.process.upstreams import connected, pieces, upstream

NAME: Final = "origin.test"
"""What the certificate is for; clients resolve it to loopback."""
FILE_BYTES: Final = 3_000_000

_CONFIG: Final = """
worker_processes 1; daemon off; pid {work}/nginx.pid; error_log {work}/error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 100000000; absolute_redirect off; if_modified_since before;
  client_body_temp_path {work}/a; proxy_temp_path {work}/b; fastcgi_temp_path {work}/c;
  uwsgi_temp_path {work}/d; scgi_temp_path {work}/e;
  client_max_body_size 0; large_client_header_buffers 8 64k; http2_max_concurrent_streams 1024;
  gzip on; gzip_min_length 1; gzip_types text/plain; default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{plain} backlog=1024;
    listen 127.0.0.1:{http2} http2 backlog=1024;
    listen 127.0.0.1:{tls} ssl http2 backlog=1024;
    ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    root {work}/files;
    location = /view {{ default_type text/plain; gzip off;
      return 200 "$request_method $request_uri $host $http_x_test $http_cookie $http_user_agent\\n"; }}
    location = /text {{ default_type text/plain; return 200 "{text}"; }}
    location = /nothing {{ return 204; }}
    location = /moved {{ return 301 /view; }}
    location = /large {{ {large} default_type text/plain; gzip off; return 200 "large\\n"; }}
    location = /trailers {{ add_trailer X-Sum 7; add_trailer X-Why because; try_files /file =404; }}
    location /up/ {{ proxy_pass http://127.0.0.1:{web}/; proxy_request_buffering off; proxy_buffering off;
      proxy_http_version 1.1; }}
  }}
}}
"""


@attrs.frozen(kw_only=True)
class Origin:
    """Its ports, and what clients must trust."""

    plain: int
    http2: int
    tls: int
    authority: Authority
    issued: Issued
    """The certificate that a proxy in its place shows too."""


@contextmanager
def origin() -> Iterator[Origin]:
    """Run it; leaving ends it."""
    # Not pytest's folder: started by root, nginx reads its files as somebody else.
    with tempfile.TemporaryDirectory(prefix="xproxy-origin-") as name, upstream("web") as web:
        work = Path(name)
        work.chmod(0o755)
        (work / "files").mkdir()
        (work / "files" / "file").write_bytes(b"".join(pieces(FILE_BYTES)))
        authority = Authority(work / "certificates")
        issued = authority.issue(NAME, "127.0.0.1")
        found = Origin(
            plain=unused_port(),
            http2=unused_port(),
            tls=unused_port(),
            authority=authority,
            issued=issued,
        )
        config = work / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                work=work,
                plain=found.plain,
                http2=found.http2,
                tls=found.tls,
                cert=issued.cert,
                key=issued.key,
                web=web,
                text="much the same " * 200,
                large=" ".join(f'add_header X-Large-{n} "{"v" * 3000}";' for n in range(8)),
            )
        )
        command = ["nginx", "-c", str(config), "-p", str(work)]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: connected(found.tls), "nginx listens")
            yield found
        finally:
            server.terminate()
            server.wait(PATIENCE)


def configuration(found: Origin) -> str:
    """Return a proxy in front of it: a listener for each kind of upstream, plaintext and TLS on each port."""
    endpoint = "endpoints: ['127.0.0.1:{port}']"
    secure = f"tls: {{ca: {found.authority.ca}, sni: {NAME}}}"
    clusters = {
        "plain": f"{endpoint.format(port=found.plain)}, codec: http1",
        "http2": f"{endpoint.format(port=found.http2)}, codec: http2",
        "tls-http1": f"{endpoint.format(port=found.tls)}, codec: http1, {secure}",
        "tls-http2": f"{endpoint.format(port=found.tls)}, codec: http2, {secure}",
    }
    listeners = "".join(
        f"  - name: to-{name}\n    address: 127.0.0.1:0\n    routes: {name}\n"
        f"    tls: {{certificates: [{{cert: {found.issued.cert}, key: {found.issued.key}}}]}}\n"
        for name in clusters
    )
    routes = "".join(f"  {name}: [{{cluster: {name}}}]\n" for name in clusters)
    those = "".join(f"  {name}: {{{fields}}}\n" for name, fields in clusters.items())
    return f"listeners:\n{listeners}routes:\n{routes}clusters:\n{those}"


UPSTREAMS: Final = ("plain", "http2", "tls-http1", "tls-http2")
"""What the proxy of ``configuration`` can forward to; the listener for each is ``to-<name>``."""
