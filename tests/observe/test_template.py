from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.observe.template import Template, clean_line, clean_text
from xproxy.observe.variables import Moment, Phase


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("", ""),
        ("plain 100%%", "plain 100%"),
        ("%method% 100%% {} %%s", "GET 100% {} %s"),
        ("%method%", "GET"),
        ("a%METHOD%b%Path%c", "aGETb/a?b=cc"),
        ("%UPSTREAM_HOST% %ROUTE_NAME%", "127.0.0.1:9081 main[0]"),
        ("%REQ(:METHOD)% %REQ(X-Forwarded-For)% %RESP(server)%", "GET - x"),
        ("%path:3% %REQ(x-request-id):2% %response_code:2%", "/a? ab 50"),
        ("%detail%", "-"),
        ("%duration%", "250.0"),
    ],
)
def test_rendering(moment: Moment, text: str, rendered: str) -> None:
    assert Template(text, Phase.END).render(moment) == rendered


def test_a_single_variable_keeps_its_type(moment: Moment) -> None:
    assert Template("%response_code%", Phase.END).value(moment) == 503
    assert Template("%detail%", Phase.END).value(moment) is None
    assert Template("%path:2%", Phase.END).value(moment) == "/a"
    assert Template("%response_code% ", Phase.END).value(moment) == "503 "
    assert Template("x", Phase.END).value(moment) == "x"


def test_a_template_knows_what_it_depends_on() -> None:
    assert Template("a%%b", Phase.REQUEST).constant == "a%b"
    assert Template("%method%", Phase.REQUEST).constant is None
    assert Template("a %method% %REQ(x)%", Phase.REQUEST).head_only
    assert not Template("%method% %peer_ip%", Phase.REQUEST).head_only


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("50%", "write %% for a percent sign"),
        ("%a b%", "write %% for"),
        ("%pth%", "did you mean %path%"),
        ("%qqqqqq%", "known: start_time"),
        ("%req%", "needs the name of a header"),
        ("%path(x)%", "takes no argument"),
        ("%REQ()%", "needs the name"),
        ("%bytes_sent%", "at the end of the exchange, not before the request goes on"),
        ("%RESP(x)%", "when the response head is there"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Template(text, Phase.REQUEST)
    assert message in str(caught.value)


def test_what_a_client_sent_cannot_end_the_line_or_its_quotes(moment: Moment) -> None:
    template = Template('"%REQ(user-agent)%"', Phase.END)
    assert template.render(moment, clean_line) == '"cu\\x22rl\\x5c\\x0a"'
    assert template.render(moment) == '"cu"rl\\\\x0a"'


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_stays_one_line_that_can_be_written(text: str) -> None:
    line = clean_line(text)
    assert len(line.splitlines()) <= 1
    assert '"' not in line
    line.encode("utf-8")
    assert clean_text(text).translate(str.maketrans("", "", "\t")) == "".join(
        f"\\x{ord(c):02x}" if ord(c) < 32 or ord(c) == 127 else c for c in text if c != "\t"
    )


@given(st.text("%abc():?5 ", max_size=20))
def test_compiling_is_total(text: str) -> None:
    try:
        Template(text, Phase.END)
    except ValueError:
        return
