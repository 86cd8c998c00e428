from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.certificates import Authority
from xproxy.config.dump import config_dump
from xproxy.config.load import load_file, load_text
from xproxy.config.schema import ServerFirstConfig
from xproxy.config.tls import ClusterTlsConfig, ListenerTlsConfig
from xproxy.registry import Registry

TEXT = """\
listeners:
  - name: edge
    address: 127.0.0.1:1
    routes: main
    tls: {certificates: [{cert: tls/edge.pem, key: tls/edge.key}], ticket_keys: tls/tickets}
    server_first: {cluster: raw}
routes:
  main: [{cluster: raw, match: {tls: true, alpn: http/1.1, peer_identity: {prefix: "spiffe://"}}}]
clusters:
  raw: {endpoints: ["h:1"], tls: {ca: tls/authority.pem, cert: tls/edge.pem, key: tls/edge.key}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Authority(tmp_path / "tls", "authority").issue("edge.test", file="edge")
    (tmp_path / "tls" / "tickets").write_bytes(bytes(80))
    (tmp_path / "xproxy.yaml").write_text(TEXT)
    return tmp_path


def test_files_are_found_from_the_folder_of_the_configuration(
    folder: Path, registry: Registry
) -> None:
    config = load_file(folder / "xproxy.yaml", registry)
    tls = config.listeners[0].tls
    assert tls is not None
    assert tls.certificates[0].key == folder / "tls" / "edge.key"
    assert tls.ticket_keys == (folder / "tls" / "tickets",)
    upstream = config.clusters["raw"].tls
    assert upstream is not None
    assert upstream.ca == folder / "tls" / "authority.pem"
    assert load_text(TEXT, "f", registry, folder) == config, "two readings compare equal"


def test_a_dump_says_where_keys_are_and_not_what_they_are(folder: Path, registry: Registry) -> None:
    dump = json.dumps(config_dump(load_file(folder / "xproxy.yaml", registry)))
    assert str(folder / "tls" / "edge.key") in dump
    assert "PRIVATE" not in dump


def test_defaults(registry: Registry) -> None:
    text = TEXT.replace("    tls: {certificates", "    #").replace("{cluster: raw}", "true", 1)
    text = text.replace("server_first: true", "server_first: true\n    fallback: {cluster: raw}")
    text = text.replace(
        "tls: {ca: tls/authority.pem, cert: tls/edge.pem, key: tls/edge.key}", "tls: true"
    )
    config = load_text(text, "f", registry)
    assert config.listeners[0].server_first == ServerFirstConfig()
    assert config.clusters["raw"].tls == ClusterTlsConfig()
    assert ClusterTlsConfig().verify
    assert not ListenerTlsConfig().strict
