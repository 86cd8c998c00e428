"""The core knows no protocol by name: it goes by traits, families, dialects and upgrade tokens that plugins declare.

Looked at is the code of ``xproxy/``: every name, imported path, keyword and text, but not comments and docstrings,
which may explain by example. Protocols may be named in ``codecs/``, in ``filters/grpc_*`` and
``health_checks/grpc_*`` (conversions and checks of one protocol), in ``cli/demo/`` (which plays one of each), in
``testing/foreign.py`` (what others say), and outside ``xproxy/``: in entry points, docs, examples and tests.
``opaque`` is no protocol but the lack of one, and ``http`` by itself is the scheme of a URI.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from xproxy.registry import CODECS, default_registry

ROOT: Final = Path(__file__).parents[1]
CORE: Final = ROOT / "xproxy"
NAMED_IN: Final = (
    "codecs/",
    "filters/grpc_",
    "health_checks/grpc_",
    "cli/demo/",
    "testing/foreign.py",
)
NO_PROTOCOLS: Final = frozenset({"opaque", "relay", "tls"})
"""Folders of ``codecs/`` that are none: the lack of a protocol, what two of our own processes say to each other, and
what is round every protocol."""
ALSO: Final = frozenset({"websocket", "h2c", "hessian", "sofa", "spdy", "http3", "h3", "quic"})
"""Names that no codec bears."""


def protocols() -> frozenset[str]:
    """Return what protocols are called: codecs, their folders, ALPN ids, and dialects."""
    registry = default_registry()
    plugins = [
        registry.codec(entry.name)
        for entry in registry.entries(CODECS)
        if entry.distribution == "xproxy"
    ]
    names = {plugin.name for plugin in plugins}
    names |= {
        path.name for path in (CORE / "codecs").iterdir() if path.is_dir() and path.name[0] != "_"
    }
    names |= {name for plugin in plugins for name in (*plugin.traits.alpn, *plugin.traits.dialects)}
    return frozenset((names | ALSO) - NO_PROTOCOLS)


def pattern(names: frozenset[str]) -> re.Pattern[str]:
    """Return what finds them as words of a name or a text: in ``GrpcStatus``, ``is_h2`` and ``http/1.1``."""
    return re.compile(rf"(?<![a-z0-9])(?:{'|'.join(map(re.escape, sorted(names)))})(?![a-z])")


def words(text: str) -> str:
    """Break CamelCase into words, in lower case."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()


def said(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give all names and texts of a module, with their lines."""
    docstrings = {id(node) for node in _docstrings(tree)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() | bytes() as value) if id(node) not in docstrings:
                yield node.lineno, value if isinstance(value, str) else value.decode("latin-1")
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield node.lineno, name
            case ast.keyword(arg=str() as name):
                yield node.value.lineno, name
            case ast.ImportFrom(module=str() as name):
                yield node.lineno, name
            case ast.alias(name=name):
                yield node.lineno, f"{name} {node.asname or ''}"


def _docstrings(tree: ast.Module) -> Iterator[ast.expr]:
    # Also those below a field or a constant.
    for node in ast.walk(tree):
        for statement in (
            getattr(node, "body", ()) if not isinstance(node, ast.Lambda | ast.IfExp) else ()
        ):
            if isinstance(statement, ast.Expr):
                yield statement.value


def test_the_core_names_no_protocol() -> None:
    names = pattern(protocols())
    found = []
    for path in sorted(CORE.rglob("*.py")):
        inside = path.relative_to(CORE).as_posix()
        if inside.startswith(NAMED_IN):
            continue
        if names.search(words(inside)):
            found.append(f"xproxy/{inside}: its own name")
        for line, text in said(ast.parse(path.read_text(encoding="utf-8"))):
            if names.search(words(text)):
                found.append(f"xproxy/{inside}:{line}: {text!r}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x = 'application/grpc'", True),
        ("if protocol == 'http1': pass", True),
        ("from xproxy.codecs.bolt.plugin import PLUGIN", True),
        ("import xproxy.codecs.thrift", True),
        ("class GrpcStatus: pass", True),
        ("def is_h2(): pass", True),
        ("f(websocket=True)", True),
        ("x = b'PRI * HTTP2'", True),
        ("alpn = 'http/1.1'", True),
        ("def f():\n    '''As HTTP/2 and grpc do.'''\n    x: int = 1\n    '''bolt'''", False),
        ("x = 1  # as in dubbo", False),
        ("scheme = 'http'", False),
        ("path = 'thunderbolt'", False),
    ],
)
def test_what_counts_as_a_name(text: str, named: bool) -> None:
    names = pattern(protocols())
    assert any(names.search(words(one)) for _, one in said(ast.parse(text))) is named
