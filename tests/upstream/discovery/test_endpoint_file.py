"""A file of endpoints is read whole, or what is wrong with it is told by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from xproxy.config.findings import InvalidConfig
from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.upstream.discovery.endpoint_file import MAX_FILE_BYTES, read_endpoints

FULL = EndpointConfig(
    address=Address("10.0.0.2", 80),
    weight=3,
    metadata={"version": "2"},
    priority=1,
    region="r",
    zone="z",
    sub_zone="s",
    hostname="a.example",
    health="degraded",
)


@pytest.mark.parametrize(
    "text",
    [
        "- 10.0.0.1:80\n- {address: '10.0.0.2:80', weight: 3, metadata: {version: '2'}, priority: 1,\n"
        "   region: r, zone: z, sub_zone: s, hostname: a.example, health: degraded}\n",
        '{"endpoints": ["10.0.0.1:80", {"address": "10.0.0.2:80", "weight": 3, "metadata": {"version": "2"},'
        '"priority": 1, "region": "r", "zone": "z", "sub_zone": "s", "hostname": "a.example",'
        '"health": "degraded"}]}',
    ],
    ids=["yaml", "json"],
)
def test_every_field_of_an_endpoint_can_be_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "endpoints"
    path.write_text(text)
    assert read_endpoints(path) == (EndpointConfig(address=Address("10.0.0.1", 80)), FULL)


def test_an_empty_list_is_a_list(tmp_path: Path) -> None:
    path = tmp_path / "endpoints"
    path.write_text("endpoints: []\n")
    assert read_endpoints(path) == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- 10.0.0.1:80\n- {address: '10.0.0.2:80', wieght: 3}\n", ":2:"),
        (b"- 10.0.0.1:80\n- 10.0.0.2\n", ":2:3: [1]: '10.0.0.2' is not host:port"),
        (b"- 10.0.0.1:80\n- [\n", ":3:"),
        (b"- 10.0.0.1:80\n- \xff\n", ":2:1: not UTF-8"),
        (b"endpoints: 3\n", ":1:"),
        (b"endpionts: []\n", ":1:"),
        (b"", ""),
        (b"#" * (MAX_FILE_BYTES + 1), "longer than"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidConfig) as caught:
        read_endpoints(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read: No such file"):
        read_endpoints(tmp_path / "none")
