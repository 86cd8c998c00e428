"""Dumps: as a file would say it, without secrets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs

from xproxy.config.dump import config_dump, plain
from xproxy.config.load import load_text
from xproxy.config.schema import StringMatch
from xproxy.model.address import Address
from xproxy.model.secrets import DEFAULT_SECRETS, REDACTED
from xproxy.model.status import Status
from xproxy.registry import Registry

TEXT = """\
listeners:
  - name: a
    address: "[::1]:80"
    routes: r
    timeouts: {detect: 250ms}
    limits: {max_head_bytes: 1KiB}
routes:
  r:
    - match: {headers: {authorization: Bearer s3cret, x-id: "7"}}
      cluster: token
      filters:
        - {name: answer, status: 200, body: hi, password: s3cret, token_file: s3cret}
        - {name: again, statuses: [unavailable]}
clusters: {token: {endpoints: [{address: "unix:/x", metadata: {api-key: s3cret}}]}}
"""


def test_dump(registry: Registry) -> None:
    dump = json.loads(json.dumps(config_dump(load_text(TEXT, "f", registry))))
    assert "s3cret" not in json.dumps(dump)
    (listener,) = dump["listeners"]
    assert (listener["address"], listener["timeouts"]["detect"]) == ("[::1]:80", "250ms")
    assert listener["limits"]["max_head_bytes"] == "1KiB"
    (route,) = dump["routes"]["r"]
    assert route["match"]["headers"]["authorization"] == REDACTED
    assert route["match"]["headers"]["x-id"]["exact"] == "7"
    answer, again = route["filters"]
    assert answer == {
        "name": "answer", "status": 200, "body": "hi", "password": REDACTED, "token_file": REDACTED,
    }  # fmt: skip
    assert again["statuses"] == ["unavailable"]
    assert again["base"] == "25ms"
    endpoint = dump["clusters"]["token"]["endpoints"][0]
    assert (endpoint["address"], endpoint["weight"]) == ("unix:/x", 1)
    assert endpoint["metadata"] == {"api-key": REDACTED}


def test_secret_names() -> None:
    assert all(
        map(DEFAULT_SECRETS.hides, ["password", "db_password", "API-Key", "token", "client.secret"])
    )
    assert not any(
        map(DEFAULT_SECRETS.hides, ["keyboard", "tokens_per_second", "monkey", "max_keys"])
    )


def test_names_of_headers_that_carry_secrets() -> None:
    names = [
        "Authorization",
        "proxy-authorization",
        "Cookie",
        "set-cookie",
        "x-api-key",
        "apikey",
        "API_KEY",
        "x-auth-token",
        "bearer",
        "passwords",
        "private_keys",
    ]
    assert [name for name in names if not DEFAULT_SECRETS.hides(name)] == []


def test_all_below_a_secret_name_is_hidden() -> None:
    value = {
        "passwords": ["s3cret", "s3cret"],
        "secret": {"of": {"anything": "s3cret"}, "pin": 1234},
        "cookie": StringMatch(regex="user=s3cret"),
        "headers": {"Set-Cookie": ["a=s3cret"]},
        "token": None,
        "key": [],
        "credentials": Holder(name="s3cret"),
    }
    assert plain(value) == {
        "passwords": [REDACTED, REDACTED],
        "secret": {"of": {"anything": REDACTED}, "pin": REDACTED},
        "cookie": REDACTED,
        "headers": {"Set-Cookie": [REDACTED]},
        "token": None,
        "key": [],
        "credentials": {"name": REDACTED, "tokens": []},
    }
    assert "s3cret" not in repr(plain(Holder(name="x", tokens=("s3cret",))))


def test_a_cluster_may_be_called_token(registry: Registry) -> None:
    dump = json.loads(json.dumps(config_dump(load_text(TEXT, "f", registry))))
    assert dump["clusters"]["token"]["load_balancer"] == "round_robin"


@attrs.frozen
class Holder:
    name: str
    tokens: tuple[str, ...] = ()


def test_other_values() -> None:
    assert plain(Status.DATA_LOSS) == "data-loss"
    assert plain(Path("/x")) == "/x"
    assert plain(re.compile("a+")) == "a+"
    assert plain(frozenset({"b", "a"})) == ["a", "b"]
    assert plain(Address("h", 1)) == "h:1"
    assert plain(object()) == "object"
    assert plain({"token": StringMatch(exact="x"), "n": 1.5}) == {"token": REDACTED, "n": 1.5}
    assert plain(attrs.make_class("Empty", [])()) == {}


def test_what_is_secret_in_texts_is_hidden_and_the_list_can_be_changed(registry: Registry) -> None:
    text = """\
listeners: [{name: a, address: "127.0.0.1:80", routes: r}]
routes:
  r:
    - match: {headers: {X-AuthToken: s3cret, x-hmac: s3cret, x-plain: shown, x-session: "7"}}
      filters: [{name: answer, status: 200, body: "https://me:s3cret@a/?token=s3cret&q=1 Bearer s3cret"}]
redaction: {also: [X-Session], never: [x_hmac]}
"""
    if "answer" not in registry.names("xproxy.filters"):
        raise AssertionError("the filter of these tests is not there")
    shown = json.dumps(config_dump(load_text(text, "f", registry)))
    assert shown.count("s3cret") == 1, "what never is hidden"
    for said in ("https://[redacted]@a/?token=[redacted]&q=1 Bearer [redacted]", "shown"):
        assert said in shown
    assert '"7"' not in shown
