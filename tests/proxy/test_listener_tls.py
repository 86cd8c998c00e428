from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.certificates import Authority
from tests.live import GET, http_response, registry, running, upstream, web
from tests.proxy.test_serve_connection import HEAD
from tests.secure import context, party, peer
from xproxy.config.tls import CertificateConfig, ListenerTlsConfig
from xproxy.model.limits import Duration, File
from xproxy.proxy.listener_tls import ListenerTls, alpn_of
from xproxy.testing import Party, play


def test_passthrough_patterns() -> None:
    tls = ListenerTls("edge", ListenerTlsConfig(passthrough=("a.test", "*.b.test")), ())
    assert tls.server is None
    for name, passes in [
        ("a.test", True),
        ("x.a.test", False),
        ("x.b.test", True),
        ("b.test", False),
        ("y.x.b.test", False),
        (None, False),
    ]:
        assert tls.passes(name) is passes, name
    assert ListenerTls("edge", ListenerTlsConfig(passthrough=("*",)), ()).passes(None)


def test_the_better_ranked_codec_is_offered_first() -> None:
    alpn = alpn_of(registry().codecs())
    assert list(alpn) == ["h2", "http/1.1"]
    assert alpn["h2"].traits.rank < alpn["http/1.1"].traits.rank


def listener(folder: Path, interval: float = 10.0) -> ListenerTls:
    authority = Authority(folder)
    issued = authority.issue("a.test", file="edge")
    certificate = CertificateConfig(cert=File(issued.cert), key=File(issued.key))
    config = ListenerTlsConfig(certificates=(certificate,), reload_interval=Duration(interval))
    return ListenerTls("edge", config, ())


async def test_files_that_change_are_read_again_and_broken_ones_told_once(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tls = listener(tmp_path)
    key = (tmp_path / "edge.key").read_bytes()
    async with trio.open_nursery() as nursery:
        await nursery.start(tls.run)
        await trio.sleep(11)
        assert caplog.messages == []
        (tmp_path / "edge.key").write_text("broken")
        await trio.sleep(30)
        assert len(caplog.messages) == 1
        assert "the old certificates stay in use" in caplog.text
        assert "edge.key" in caplog.text
        (tmp_path / "edge.key").write_bytes(key)
        await trio.sleep(10)
        assert caplog.messages[1:] == ["listener edge: certificates have been read again"]
        nursery.cancel_scope.cancel()


async def test_no_interval_no_watch(tmp_path: Path, autojump_clock: MockClock) -> None:
    tls = listener(tmp_path, 0)
    with trio.move_on_after(1000) as scope:
        await tls.run()
    assert scope.cancelled_caught


async def test_a_reload_keeps_sessions_alive_and_takes_up_new_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("edge.test", file="edge")
    keys = f"{{cert: {tmp_path / 'edge.pem'}, key: {tmp_path / 'edge.key'}}}"
    tls = f"    tls: {{certificates: [{keys}]}}\n"
    made = context(high="TLSv1_2")
    made.load_verify_locations(authority.ca)
    async with upstream() as up, running(web(up.port, listener=tls)) as live:
        before = live.runtime.listeners["edge"].plan.tls
        open_one = await party(live, made)
        authority.issue("edge.test", "new.test", file="edge")
        await live.reload(web(up.port, listener=tls, max_requests_per_connection="7"))
        assert live.runtime.listeners["edge"].plan.tls is before
        renewed = await peer(live, made)
        certificate = renewed.object.getpeercert() or {}
        assert ("DNS", "new.test") in certificate["subjectAltName"]
        await open_one.send(GET)
        server = Party("upstream", await up.accept())
        ok = http_response(b"ok")
        await play(server << HEAD, server >> ok, open_one << ok)
