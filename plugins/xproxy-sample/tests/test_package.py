"""What the sample shows must stay true: its size, what it imports, how it is found, what it puts on the wire."""

import ast
import tomllib
from pathlib import Path

from xproxy_sample.codec import PLUGIN

from xproxy.api import DEFAULT_LIMITS, CodecPlugin, Head, RequestHead, Role

ROOT = Path(__file__).parent.parent
CODEC = ROOT / "xproxy_sample" / "codec.py"


def test_the_codec_has_at_most_sixty_lines() -> None:
    lines = [line.strip() for line in CODEC.read_text("utf-8").splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 60


def test_it_imports_the_public_interface_only() -> None:
    tree = ast.parse(CODEC.read_text("utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in modules if name and name.startswith("xproxy")} == {"xproxy.api"}


def test_its_entry_point_leads_to_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"] == {
        "xproxy.codecs": {"xs1": "xproxy_sample.codec:PLUGIN"},
        "xproxy.discovery": {"command": "xproxy_sample.discovery:Command"},
    }
    found: CodecPlugin = PLUGIN
    assert found.name == "xs1"


def test_the_wire_is_what_the_description_says() -> None:
    head = RequestHead(service="Echo", method="say", deadline=3.0)
    sent = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS).send(Head(10, head, b"N", end=True))
    block = b"\x07service\x00\x04Echo\x06method\x00\x03say"
    fixed = bytes.fromhex("7801 00 00 0000000A 00000BB8") + len(block).to_bytes(2)
    assert sent == fixed + b"\0\0\0\1" + block + b"N"
