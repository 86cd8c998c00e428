from __future__ import annotations

import pytest

from tests.interop.test_redis import with_redis
from xproxy.config.load import read_text


def warnings(listener: str, match: str, cluster: str) -> list[str]:
    text = (
        f"listeners: [{{name: edge, address: '127.0.0.1:0', routes: main{listener}}}]\n"
        f"routes: {{main: [{{{match}cluster: c}}]}}\n"
        f"clusters: {{c: {{endpoints: ['127.0.0.1:1']{cluster}}}}}\n"
    )
    return [f.message for f in read_text(text, "x.yaml", with_redis()).warnings]


@pytest.mark.parametrize(
    ("listener", "match", "cluster", "warned"),
    [
        ("", "match: {protocol: redis}, ", ", connections: shared", True),
        (", codecs: [redis, http1]", "", ", connections: shared", True),
        ("", "", ", codec: redis, connections: shared", True),
        ("", "match: {protocol: redis}, ", "", False),
        ("", "match: {protocol: redis}, ", ", connections: bound", False),
        ("", "match: {protocol: redis}, ", ", connections: shared, proxy_protocol: v1", False),
        ("", "match: {protocol: [http1, grpc]}, ", ", connections: shared", False),
        ("", "", ", connections: shared", False),
    ],
)
def test_shared_connections_of_a_stateful_protocol_are_a_warning(
    listener: str, match: str, cluster: str, warned: bool
) -> None:
    found = warnings(listener, match, cluster)
    assert [text.partition(" ")[0] for text in found] == ["redis"] * warned
