"""What command tests need: xproxy installed, with its entry points."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from xproxy.registry import CODECS, default_registry

GOOD = """\
listeners: [{name: edge, address: "127.0.0.1:0", routes: main}]
routes: {main: [{cluster: web}]}
clusters: {web: {endpoints: ["127.0.0.1:9"]}}
"""


@pytest.fixture(autouse=True)
def installed() -> None:
    """Skip where the package is only a folder: then there are no entry points."""
    if "http1" not in default_registry().names(CODECS):
        pytest.skip("xproxy is not installed")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A configuration file with nothing wrong."""
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """One with two mistakes."""
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace("cluster: web", "clutser: web").replace("name: edge", "name: 7"))
    return path


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """Undo what a command has set up."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level
