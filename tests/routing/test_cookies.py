"""Cookies: which value a name has, whatever stands around it, and what is set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.config.balancing import CookieConfig
from xproxy.model.headers import Headers
from xproxy.model.limits import Duration
from xproxy.routing.cookies import cookie_of, set_cookie


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        (["a=1"], "1"),
        (["b=2; a=1"], "1"),
        (["a=1;a=2"], "1"),
        (["xa=3", "a=1"], "1"),
        (['a="1 2"'], "1 2"),
        (['a="'], '"'),
        (["a="], ""),
        (["a"], None),
        (["A=1"], None),
        ([" a = 1 "], "1"),
        (["a=b=c"], "b=c"),
        ([], None),
    ],
)
def test_the_first_of_its_name_without_quotes(fields: list[str], value: str | None) -> None:
    assert cookie_of(Headers([("Cookie", field) for field in fields]), "a") == value


@given(st.lists(st.text(max_size=40)))
def test_any_text_is_read(fields: list[str]) -> None:
    cookie_of(Headers([("cookie", field) for field in fields]), "a")


def test_what_is_set() -> None:
    assert set_cookie(CookieConfig(name="a"), "x") == 'a="x"; Path=/; HttpOnly'
    brief = CookieConfig(name="a", ttl=Duration(0.2), path="")
    assert set_cookie(brief, "x") == 'a="x"; Max-Age=1; HttpOnly'
