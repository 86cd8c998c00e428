"""Plays a page as a reader would: writes its files, runs its commands, compares what they print."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.docs.pages import ROOT, WORDS, Block
from tests.docs.shell import Shell, expected
from tests.process.product import unused_port
from xproxy.config.document import read_document
from xproxy.config.load import load_text
from xproxy.model.errors import ConfigError
from xproxy.registry import Registry

_PORT: Final = re.compile(r"127\.0\.0\.1:(\d{4,5})\b")
_SETUP: Final = (
    re.compile(r"python3 -m venv \.venv"),
    re.compile(r"\. \.venv/bin/activate"),
    re.compile(r"mkdir [\w-]+ && cd [\w-]+"),
    re.compile(r"pip install \.\./xproxy"),
    re.compile(r"pip install pytest( pytest-trio)?"),
    re.compile(r"pip install -e \."),
)
_INSTALLED: Final = "pyproject.toml"


class Wrong(AssertionError):
    """A block does not do what the page says."""

    def __init__(self, block: Block, detail: str) -> None:
        super().__init__(f"{block}: {detail}")


def play(blocks: Iterable[Block], folder: Path, registry: Registry) -> None:
    """Play a page in ``folder``. Raises Wrong."""
    shown = [*blocks]
    ports = free_ports("\n".join(block.text for block in shown))
    with Shell(folder) as shell:
        for number, block in enumerate(shown):
            check_words(block)
            text = with_ports(block.text, ports)
            if block.file is not None:
                path = folder / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
            if block.language == "sh":
                _run(block, text, shell)
            elif block.language == "text" and "output" in block.words:
                if shell.wait_for(expected(text)) is None:
                    raise Wrong(block, f"expected\n{text}\nbut it printed\n{shell.output}")
            elif block.language == "python" and block.file is None:
                (folder / f"block_{number}.py").write_text(text, "utf-8")
                if not shell.run(f"python3 block_{number}.py"):
                    raise Wrong(block, shell.output)
            elif (
                block.language == "yaml"
                and block.file is not None
                and (folder / _INSTALLED).exists()
            ):
                # Only the shell knows the plugins that the page has installed.
                if not shell.run(f"xproxy check -c {block.file}"):
                    raise Wrong(block, shell.output)
            else:
                check_text(block, text, registry, folder)


def check_words(block: Block) -> None:
    """Raise Wrong for a block that does not say what it is for."""
    if block.language not in WORDS:
        raise Wrong(block, f"language {block.language!r} is none of {', '.join(WORDS)}")
    unknown = block.words - WORDS[block.language]
    if unknown:
        raise Wrong(block, f"{block.language} knows no {', '.join(sorted(unknown))}")


def check_text(block: Block, text: str, registry: Registry, folder: Path = Path()) -> None:
    """Raise Wrong if the text is not what its language wants; files that it names are in ``folder``."""
    try:
        match block.language:
            case "yaml":
                _check_configuration(block, text, registry, folder)
            case "toml":
                tomllib.loads(text)
            case "json":
                json.loads(text)
            case "python":
                compile(text, str(block), "exec")
    except (ConfigError, ValueError, SyntaxError) as exc:
        raise Wrong(block, str(exc)) from exc


def _check_configuration(block: Block, text: str, registry: Registry, folder: Path) -> None:
    if "part" in block.words:
        part = read_document(text, str(block)).value
        assert isinstance(part, dict)
        text = json.dumps(completed(part))  # which is YAML, too
    if "broken" not in block.words:
        load_text(text, str(block), registry, folder)
        return
    try:
        load_text(text, str(block), registry, folder)
    except ConfigError:
        return
    raise Wrong(block, "is said to be broken, and is not")


def completed(part: Mapping[str, object]) -> dict[str, object]:
    """Return a whole configuration with ``part`` in it: a listener, and every cluster that a route names."""
    whole = dict(part)
    tables = whole.get("routes", {})
    assert isinstance(tables, dict)
    named: set[str] = set()
    for route in (route for table in tables.values() for route in table):
        cluster = route.get("cluster", ())
        named |= {cluster} if isinstance(cluster, str) else set(cluster)
        named |= {mirror["cluster"] for mirror in route.get("mirrors", ())}
        named |= {route[key] for key in ("fallback_cluster",) if key in route}
    clusters = {name: {"endpoints": ["127.0.0.1:8001"]} for name in sorted(named) or ["web"]}
    given = whole.get("clusters", {})
    assert isinstance(given, dict)
    whole["clusters"] = clusters | given
    if not tables:
        tables = whole["routes"] = {"main": [{"cluster": next(iter(clusters | given))}]}
    edge = {"name": "edge", "address": "127.0.0.1:15001", "routes": next(iter(tables))}
    whole.setdefault("listeners", [edge])
    return whole


def free_ports(text: str) -> Mapping[str, str]:
    """Return a free port for each port on loopback that ``text`` names."""
    return {port: str(unused_port()) for port in {*_PORT.findall(text)}}


def with_ports(text: str, ports: Mapping[str, str]) -> str:
    """Return ``text`` with its ports replaced, wherever they stand."""
    if not ports:
        return text
    return re.sub(rf"\b({'|'.join(ports)})\b", lambda match: ports[match[1]], text)


def _run(block: Block, text: str, shell: Shell) -> None:
    if "setup" in block.words:
        for line in filter(None, text.splitlines()):
            _set_up(block, line, shell)
        return
    if "root" in block.words:
        commands = re.sub(r"^make ", "make -n ", text, flags=re.MULTILINE)
        text = f"(cd {shlex.quote(str(ROOT))}\n{commands}\n)"
    succeeded = shell.run(text)
    if succeeded is ("fails" in block.words):
        raise Wrong(block, f"{'succeeds' if succeeded else 'fails'}:\n{shell.output}")


def _set_up(block: Block, line: str, shell: Shell) -> None:
    if not any(pattern.fullmatch(line.partition("  #")[0].rstrip()) for pattern in _SETUP):
        raise Wrong(block, f"{line!r} is no set-up command that is known to be right")
    if line.startswith("pip install -e ."):
        install(shell.folder)
        shell.run(f"export PYTHONPATH={shlex.quote(str(shell.folder))}")


def install(project: Path) -> None:
    """Do what ``pip install -e`` does, without a network: write down the name, the version and the entry points."""
    described = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    name, version = described["name"], described["version"]
    info = project / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = described.get("entry-points", {})
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
