"""Formats of an access log: a line of text, or a JSON object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from xproxy.model.secrets import DEFAULT_SECRETS, SecretNames
from xproxy.observe.template import Template, clean_line
from xproxy.observe.variables import Moment, Phase

Format: TypeAlias = Callable[[Moment], str]
"""Returns the line of an exchange, without its end."""

DEFAULT_TEXT: Final = (
    '%start_time% %peer_address% %protocol% "%method% %target%" %response_code% %status% %response_flags%'
    ' %bytes_received%/%bytes_sent%B %duration%ms %route% %cluster% %endpoint% x%attempts% "%detail%"'
)
"""When, who, how; what was asked; how it ended; body bytes in/out, time; where it went, tries, why if it failed."""

DEFAULT_FIELDS: Final[Mapping[str, str]] = {
    name: f"%{name}%"
    for name in (
        "start_time",
        "listener",
        "protocol",
        "peer_address",
        "method",
        "service",
        "path",
        "response_code",
        "status",
        "response_flags",
        "bytes_received",
        "bytes_sent",
        "duration",
        "route",
        "cluster",
        "endpoint",
        "attempts",
        "detail",
        "request_id",
    )
}
"""The fields of a JSON line: every key with the variable of its name."""


MAX_FIELD: Final = 2048
"""Characters of one value, where the log says nothing else."""
_BEYOND: Final = 1024
"""Characters behind these that are looked at: a password is known by the ``@`` behind it."""

_is_plain: Final = re.compile(r"[A-Za-z0-9_./:\[\] -]*\Z").match
"""Most values have nothing that is secret (which takes a ``=`` or ``@``), ends a line, or can be read in two ways."""


def text_format(
    template: str = DEFAULT_TEXT,
    max_field: int = MAX_FIELD,
    secrets: SecretNames = DEFAULT_SECRETS,
) -> Format:
    """Return the format of a text line. Raises ValueError for unknown variables, or a line break in the template.

    Of values longer than ``max_field`` characters the line has that many, and ``…``. What has one of the names of
    ``secrets`` is not told, nor what is secret in URLs.
    """
    if "\n" in template or "\r" in template:
        raise ValueError("a log line has no line breaks in it")
    compiled = Template(template, Phase.END, secrets)

    def clean(value: str) -> str:
        if len(value) <= max_field and _is_plain(value):
            return value
        return clean_line(_told(value, max_field, secrets))

    return lambda moment: compiled.render(moment, clean)


def json_format(
    fields: Mapping[str, str] = DEFAULT_FIELDS,
    max_field: int = MAX_FIELD,
    secrets: SecretNames = DEFAULT_SECRETS,
) -> Format:
    """Return the format of a JSON line; a field that is one variable keeps its type, null if it has no value."""
    compiled = [(key, Template(text, Phase.END, secrets)) for key, text in fields.items()]
    encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

    def clean(value: str) -> str:
        if len(value) <= max_field and _is_plain(value):
            return value
        return _told(value, max_field, secrets)

    return lambda moment: clean_json(
        encode({key: template.value(moment, clean) for key, template in compiled})
    )


def _told(value: str, most: int, secrets: SecretNames) -> str:
    """Return what the log tells of a value of the wire. What it leaves away costs nothing."""
    if len(value) <= most + _BEYOND:
        return _readable(secrets.clean(value), most)
    value = secrets.clean(value[: most + _BEYOND])[:most]
    return f"{value if value.isascii() else _utf8(value, cut=True)}…"


def _readable(value: str, most: int) -> str:
    """Return text of the wire as people read it, and not more than so much of it.

    Fields of the web are Latin-1 to the codecs, a place for each byte. What was sent as UTF-8 is shown as that.
    """
    if len(value) > most:
        value = value[:most]
        return f"{value if value.isascii() else _utf8(value, cut=True)}…"
    return value if value.isascii() else _utf8(value, cut=False)


def _utf8(value: str, *, cut: bool) -> str:
    try:
        data = value.encode("latin-1")
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        if cut and exc.reason == "unexpected end of data":  # in the middle of a character
            return data[: exc.start].decode("utf-8")
        return value
    except UnicodeEncodeError:
        return value  # other text, as it is


def clean_json(line: str) -> str:
    """Return JSON that stands in one line for every reader, and can be written as UTF-8."""
    return line if line.isprintable() else _UNSAFE.sub(_escaped, line)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


# JSON allows all these as they are, but some readers cut lines there; and lone surrogates are no text.
_UNSAFE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def dropped_text(count: int) -> str:
    """Return the text line that says how many lines are missing."""
    return f"- {count} access log lines dropped"


def dropped_json(count: int) -> str:
    """Return the JSON line that says how many lines are missing."""
    return json.dumps({"dropped_lines": count})
