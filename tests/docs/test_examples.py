"""The examples are right, and nothing about them is odd."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.docs.pages import ROOT
from xproxy.cli.main import main
from xproxy.registry import CODECS, default_registry

EXAMPLES = sorted((ROOT / "examples").iterdir())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_check_finds_nothing(example: Path) -> None:
    if "http1" not in default_registry().names(CODECS):
        pytest.skip("xproxy is not installed")
    result = CliRunner().invoke(main, ["check", "-c", str(example)])
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
    assert f"-c examples/{example.name}" in example.read_text("utf-8")
