"""Host patterns: ``reviews:9080``, ``*.reviews.local``, ``reviews.*``, ``*``.

Routes are tried in order, so unlike Envoy's virtual hosts a better pattern further down does not win.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xproxy.model.authority import normalised, split_port
from xproxy.routing.match import Holds


def check_host_pattern(pattern: str) -> None:
    """Raise ValueError unless ``pattern`` is a host, ``*.suffix``, ``prefix.*`` or ``*``, with or without a port."""
    host, _ = split_port(pattern)
    if not host or any(c.isspace() or c in "/@" for c in host):
        raise ValueError(f"{pattern!r} is not a host: write reviews:9080, *.reviews.local or *")
    if "*" in host[1:-1] or (len(host) > 1 and host[0] == host[-1] == "*"):
        raise ValueError(f"{pattern!r}: a single * may stand at the start or at the end of a host")


def _one_host(pattern: str) -> Callable[[str, str], bool]:
    host, port = split_port(pattern.lower())
    port = "" if port == "*" else port.lstrip("0")
    if host == "*":
        return lambda found, its_port: not port or port == its_port
    # A wildcard stands for at least one character, as in Envoy: *.a.com does not match .a.com.
    if host.startswith("*"):
        suffix = host[1:].removesuffix(".")
        return lambda found, its_port: (
            found.endswith(suffix) and len(found) > len(suffix) and (not port or port == its_port)
        )
    if host.endswith("*"):
        prefix = host[:-1]
        return lambda found, its_port: (
            found.startswith(prefix) and len(found) > len(prefix) and (not port or port == its_port)
        )
    host = normalised(host)
    return lambda found, its_port: found == host and (not port or port == its_port)


def host_test(patterns: Iterable[str]) -> tuple[str, Holds]:
    """Return the test of a host, as ``with_port`` gives it, against the patterns of a route, which have been checked.

    A pattern without port (or with ``:*``) matches every port; one with a port wants that port, whether the request
    says it or its scheme means it. ``*`` matches every request, also one that has no host.
    """
    texts = tuple(patterns)
    wanted = " or ".join(texts)
    if "*" in texts:
        return wanted, lambda found: True
    exact = frozenset(normalised(text) for text in texts if "*" not in text)
    wild = tuple(_one_host(text) for text in texts if "*" in text)

    def holds(found: str | None) -> bool:
        if found is None:
            return False
        if found in exact:
            return True
        host, port = split_port(found)
        return host in exact or any(matches(host, port) for matches in wild)

    return wanted, holds
