"""The tables of the protocols say what their codecs do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.codecs.test_first_bytes import TABLE
from tests.docs.pages import ROOT
from tests.docs.tables import code, table
from xproxy.codecs.api import CodecPlugin, RestoringPlugin, SupportsGoAway, SupportsHeartbeat
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role, Sharing
from xproxy.registry import CODECS, default_registry

PAGE = ROOT / "docs" / "protocols" / "README.md"
WHERE = table(
    PAGE,
    "protocol",
    "codec",
    "bytes until it is known",
    "on one connection",
    "to an upstream",
    "moves to a new process",
)
ABILITIES = table(
    PAGE,
    "codec",
    "trailers",
    "interim responses",
    "oneway",
    "server may call",
    "heartbeats",
    "goodbye",
    "half-close",
)
PLUGINS: dict[str, CodecPlugin] = {
    entry.name: default_registry().codec(entry.name)
    for entry in default_registry().entries(CODECS)
    if entry.distribution == "xproxy"
}
SHARINGS = {
    Sharing.SERIAL: "one after another",
    Sharing.MESSAGES: "many, whole",
    Sharing.FRAMES: "many, in pieces",
}


def test_every_codec_has_its_rows() -> None:
    assert {code(row[1]) for row in WHERE} == set(PLUGINS)
    assert {code(row[0]) for row in ABILITIES} == set(PLUGINS)


@pytest.mark.parametrize("row", WHERE, ids=lambda row: code(row[1]))
def test_how_a_protocol_shares_connections(row: list[str]) -> None:
    plugin = PLUGINS[code(row[1])]
    traits = plugin.traits
    sizes = {size for _, name, size in TABLE if name == plugin.name}
    known = "–".join(str(size) for size in sorted({min(sizes), max(sizes)})) if sizes else "–"
    found = (
        known,
        SHARINGS[traits.sharing],
        SHARINGS[traits.upstream_sharing or traits.sharing],
        said(isinstance(plugin, RestoringPlugin)),
    )
    assert found == tuple(row[2:])


@pytest.mark.parametrize("row", ABILITIES, ids=lambda row: code(row[0]))
def test_what_a_protocol_can_do(row: list[str]) -> None:
    plugin = PLUGINS[code(row[0])]
    traits = plugin.traits
    codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
    found = (
        traits.trailers,
        traits.interim,
        traits.oneway,
        traits.reverse,
        isinstance(codec, SupportsHeartbeat),
        isinstance(codec, SupportsGoAway),
        traits.half_close,
    )
    assert tuple(map(said, found)) == tuple(row[1:])


@pytest.mark.parametrize("page", sorted(PAGE.parent.glob("[a-z]*.md")), ids=lambda page: page.stem)
def test_each_page_says_the_same_of_its_protocol(page: Path) -> None:
    sections = "What is read", "What can be routed on", "What is converted", "Limits", "Errors"
    wanted = {name for name in sections if (page.stem, name) != ("tls", "What is converted")}
    heads = re.findall(r"^## (.*)$", page.read_text("utf-8"), re.MULTILINE)
    assert {name for name in wanted if any(head.startswith(name) for head in heads)} == wanted


def said(able: bool) -> str:
    return "yes" if able else "–"
