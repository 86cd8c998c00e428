"""Every page does what it says: its files load, its commands succeed, and they print what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks, name_of
from tests.docs.player import play
from xproxy.registry import CODECS, default_registry


def _parameter(page: Path) -> object:
    marks = [pytest.mark.slow]
    commands = "".join(block.text for block in blocks(page) if block.language == "sh")
    marks += [pytest.mark.tool(tool) for tool in ("curl", "openssl") if f"{tool} " in commands]
    return pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.parametrize("page", [_parameter(page) for page in PAGES])
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    registry = default_registry()
    if "http1" not in registry.names(CODECS):
        pytest.skip("xproxy is not installed")
    play(blocks(page), tmp_path, registry)
