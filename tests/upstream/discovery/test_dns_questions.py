"""Questions to a real server: of whom, under which names, and what stands in for an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dns_server import DnsServer, dns_server, records
from xproxy.model.address import Address
from xproxy.upstream.discovery import dns_questions
from xproxy.upstream.discovery.dns_answers import Family
from xproxy.upstream.discovery.dns_questions import Questions
from xproxy.upstream.discovery.hosts_file import HostsFile


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsServer]:
    with dns_server(tmp_path_factory.mktemp("dns")) as found:
        yield found


def asking(server: DnsServer, family: Family = "v4_only") -> Questions:
    return Questions((Address("127.0.0.1", server.port),), "", HostsFile(""), family, 5.0)


async def test_search_domains_and_ndots_of_resolv_conf_are_used(
    server: DnsServer, tmp_path: Path
) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("search x.test y.test\nnameserver 127.0.0.1\noptions ndots:2\n")
    server.say(a_b_y_test__A=records("127.0.0.5"), a_b__A=records("127.0.0.6"))
    questions = Questions((), str(conf), HostsFile(""), "v4_only", 5.0)
    questions._current().port = server.port
    assert (await questions.addresses("a.b")).addresses == ("127.0.0.5",)
    assert (await questions.addresses("a.b.")).addresses == ("127.0.0.6",)
    conf.write_text("nameserver 127.0.0.2\n")
    assert questions._current().nameservers == ["127.0.0.2"], "it is read again"
    conf.unlink()
    assert (await questions.addresses("a.b")).addresses == ("127.0.0.5",), "as it was told before"
    assert "FileNotFoundError" in questions.failures[-1]


async def test_silence_keeps_an_answer_of_each_family_and_a_no_of_the_name(
    server: DnsServer,
) -> None:
    questions = asking(server, "all")
    server.say(a_test__A=records("10.0.0.1"), a_test__AAAA=records("2001:db8::1"))
    both = ("2001:db8::1", "10.0.0.1")
    assert (await questions.addresses("a.test")).addresses == both
    server.say(a_test__A=records("10.0.0.2"), a_test__AAAA={"rcode": "SERVFAIL"})
    assert (await questions.addresses("a.test")).addresses == ("2001:db8::1", "10.0.0.2")
    assert "AAAA" in questions.failures[-1]
    server.say(a_test__A=records("10.0.0.3"))
    assert (await questions.addresses("a.test")).addresses == ("10.0.0.3",)
    server.say()
    assert (await questions.addresses("a.test")).addresses == ("10.0.0.3",)
    assert "NXDOMAIN" in questions.failures[-1]
    assert (await questions.addresses("b.test")).addresses == ()


async def test_services_that_are_gone_are_kept_with_addresses_of_now(server: DnsServer) -> None:
    questions = asking(server)
    server.put({"_a.test. SRV": records("1 1 80 b.test."), "b.test. A": records("10.0.0.1")})
    answered, targets = await questions.services("_a.test")
    assert [one.port for one in answered.services] == [80]
    server.put({"b.test. A": records("10.0.0.2")})
    again, targets = await questions.services("_a.test")
    assert again.services == answered.services
    assert targets["b.test."].addresses == ("10.0.0.2",)
    assert await questions.services("_none.test") == (again.__class__(), {})


async def test_what_is_remembered_is_bounded(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_questions, "MOST_REMEMBERED", 4)
    questions = asking(server)
    server.say(**{f"n{n}_test__A": records("10.0.0.1") for n in range(5)})
    for n in range(5):
        assert (await questions.addresses(f"n{n}.test")).addresses == ("10.0.0.1",)
    server.say()
    assert (await questions.addresses("n0.test")).addresses == ()
    assert (await questions.addresses("n4.test")).addresses == ("10.0.0.1",)
