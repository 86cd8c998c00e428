"""nginx: one worker process, connections to the upstream kept open, no access log."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

from bench import tools
from bench.certificate import certificate
from bench.lab import Lab
from bench.processes import Argv, free_port, running
from bench.proxies.proxy import PLAIN, Kind, Served, Shape, cannot
from bench.tools import Missing

_TEMPORARY = {
    "client_body_temp_path": "",
    "proxy_temp_path": "http_proxy",
    "fastcgi_temp_path": "http_fastcgi",
    "uwsgi_temp_path": "http_uwsgi",
    "scgi_temp_path": "http_scgi",
}
"""Folders nginx makes at its start, by default where only root may; and the module that knows each."""
_SERVER: Mapping[Kind, str] = {"http1": "", "http2": " http2", "tls": " ssl http2"}
"""The kinds it does as a web server, and what makes a listening socket one of them. Upstreams get HTTP/1.1 only."""


@attrs.frozen
class Nginx:
    """The nginx of the system."""

    name: str = "nginx"

    def version(self) -> str:
        return tools.output_of(tools.nginx(), "-v").rpartition("/")[2]

    @contextmanager
    def serve(self, lab: Lab, kind: Kind, upstream: int, shape: Shape = PLAIN) -> Iterator[Served]:
        if kind not in _SERVER and kind != "l4":
            raise cannot(self.name, kind)
        port = free_port()
        folder = lab.work / f"nginx-{port}"
        if kind != "l4":
            config = configuration(
                folder,
                http=_web(lab, kind, port, upstream, shape),
            )
        else:
            config = configuration(
                folder,
                stream=f"server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{upstream}; }}",
                module=_stream_module(),
            )
        argv: Argv = [tools.nginx(), "-p", folder, "-c", config]
        with running(argv, name=self.name, cpu=lab.proxy_cpu, work=lab.work, port=port) as process:
            yield Served(process=process, port=port)


def _web(lab: Lab, kind: Kind, port: int, upstream: int, shape: Shape) -> str:
    """Return the blocks of a web server: upstreams, and a server for each host."""
    ups = "".join(
        f"upstream {name} {{ server 127.0.0.1:{upstream}; keepalive 512; "
        "keepalive_requests 1000000000; }\n"
        for name in shape.cluster_names
    )
    locations = "".join(
        f"location {prefix} {{ proxy_pass http://{shape.cluster(n)}; proxy_http_version 1.1; "
        'proxy_set_header Connection ""; }\n'
        for n, prefix in enumerate(shape.prefixes)
    )
    hosts = shape.host_names or ["_"]
    return f"server_names_hash_max_size 8192;\n{ups}" + "".join(
        f"server {{ listen 127.0.0.1:{port}{_SERVER[kind]}{'' if n else ' backlog=4096'}; server_name {host}; "
        f"{_tls(lab) if kind == 'tls' else ''}{locations}}}\n"
        for n, host in enumerate(hosts)
    )


def _tls(lab: Lab) -> str:
    shown = certificate(lab.work)
    return (
        f"ssl_certificate {shown.chain}; ssl_certificate_key {shown.key}; ssl_protocols TLSv1.3; "
    )


def configuration(folder: Path, *, http: str = "", stream: str = "", module: str = "") -> Path:
    """Write a configuration with the given blocks into a folder of its own; return the file."""
    folder.mkdir()
    build = tools.output_of(tools.nginx(), "-V")
    temporary = "\n".join(
        f"{directive} {folder}/{directive};"
        for directive, module_name in _TEMPORARY.items()
        if not module_name or f"--without-{module_name}_module" not in build
    )
    _, file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    path = folder / "nginx.conf"
    path.write_text(
        f"{module}\ndaemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\n"
        f"error_log stderr crit;\nevents {{ worker_connections {min(file_limit, 20_000)}; }}\n"
        + (f"stream {{\n{stream}\n}}\n" if stream else "")
        + (
            "http {\naccess_log off;\nkeepalive_requests 1000000000;\nkeepalive_timeout 3600s;\n"
            f"{temporary}\n{http}\n}}\n"
            if http
            else ""
        )
    )
    return path


def _stream_module() -> str:
    """Return the directive that loads the stream module; empty where it is built in."""
    build = tools.output_of(tools.nginx(), "-V")
    if "--with-stream=dynamic" not in build:
        if "--with-stream" not in build.split():
            raise Missing("nginx is built without its stream module")
        return ""
    folder = re.search(r"--modules-path=(\S+)", build)
    found = Path(folder[1]) / "ngx_stream_module.so" if folder else None
    if found is None or not found.exists():
        raise Missing("nginx's stream module is not installed (Debian package libnginx-mod-stream)")
    return f"load_module {found};"
