"""The reference pages: as committed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from xproxy.cli.main import main
from xproxy.cli.reference import cli_reference
from xproxy.registry import FILTERS, default_registry

DOCS = Path(__file__).parents[2] / "docs"


def test_every_command_has_its_section() -> None:
    page = cli_reference(main)
    for name in main.commands:
        assert f"\n## xproxy {name}\n" in page
        assert f"Usage: xproxy {name} [OPTIONS]" in page


def test_committed_pages_are_up_to_date() -> None:
    if not any(entry.distribution == "xproxy" for entry in default_registry().entries(FILTERS)):
        pytest.skip("xproxy is not installed")
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, text in generate.pages().items():
        assert (DOCS / "reference" / name).read_text(encoding="utf-8") == text, (
            f"run make docs: {name}"
        )
