"""Formats of an access log: a line of text, or a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from xproxy.observe.template import Template, clean_line
from xproxy.observe.variables import Phase, Record

Format: TypeAlias = Callable[[Record], str]
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


def text_format(template: str = DEFAULT_TEXT) -> Format:
    """Return the format of a text line. Raises ValueError for unknown variables, or a line break in the template."""
    if "\n" in template or "\r" in template:
        raise ValueError("a log line has no line breaks in it")
    compiled = Template(template, Phase.END)
    return lambda record: compiled.render(record, clean_line)


def json_format(fields: Mapping[str, str] = DEFAULT_FIELDS) -> Format:
    """Return the format of a JSON line; a field that is one variable keeps its type, null if it has no value."""
    compiled = [(key, Template(text, Phase.END)) for key, text in fields.items()]
    # ASCII only: no separator that a reader might take for the end of a line, and no lone surrogate.
    encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
    return lambda record: encode({key: template.value(record) for key, template in compiled})


def dropped_text(count: int) -> str:
    """Return the text line that says how many lines are missing."""
    return f"- {count} access log lines dropped"


def dropped_json(count: int) -> str:
    """Return the JSON line that says how many lines are missing."""
    return json.dumps({"dropped_lines": count})
