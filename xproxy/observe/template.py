"""Templates: texts with ``%variables%`` in them, compiled when the configuration is read.

What a peer sent cannot break the text it is put into: control characters never pass, and in a log line neither do the
quote and the backslash that mark its edges.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Final, TypeAlias, final

import attrs

from xproxy.model.secrets import REDACTED, SecretNames
from xproxy.observe.variables import (
    ENVOY_NAMES,
    HEADER_VARIABLES,
    VARIABLES,
    Moment,
    Phase,
    Value,
    Variable,
    header_variable,
)

Clean: TypeAlias = Callable[[str], str]

_ITEM: Final = re.compile(
    r"%(?:%|(?P<name>[A-Za-z_]+)(?:\((?P<argument>[^()%]*)\))?(?::(?P<length>[0-9]{1,6}))?%)"
)
_WHEN: Final = {
    Phase.REQUEST: "before the request goes on",
    Phase.RESPONSE: "when the response head is there",
    Phase.END: "at the end of the exchange",
}


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


# Bytes above 7F are legal in HTTP fields, and a tab is: only what could end a field goes.
_CONTROLS: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
# C0, DEL, C1 and the two Unicode line separators, at which some readers of logs cut lines; and lone surrogates, which
# stand for bytes that are not UTF-8.
_LINE_BREAKERS: Final = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"\\\\]')


def clean_text(value: str) -> str:
    r"""Return the text with control characters written as ``\x0a``."""
    return value if value.isprintable() else _CONTROLS.sub(_escaped, value)


def clean_line(value: str) -> str:
    """Return the text so that it cannot end a line, or a quoted part of one."""
    return _LINE_BREAKERS.sub(_escaped, value)


def variable(name: str, argument: str | None, phase: Phase) -> Variable:
    """Look a variable up. Raises ValueError if it is unknown, or has no value yet in ``phase``."""
    lower = name.lower()
    if argument is not None:
        if lower not in HEADER_VARIABLES:
            raise ValueError(f"%{name}(…)% takes no argument, or is unknown")
        found = header_variable(lower, argument)
    else:
        if lower in HEADER_VARIABLES:
            raise ValueError(f"%{name}% needs the name of a header: %{name}(user-agent)%")
        known = VARIABLES.get(ENVOY_NAMES.get(lower, lower))
        if known is None:
            near = difflib.get_close_matches(lower, [*VARIABLES, *ENVOY_NAMES], n=1)
            hint = f"did you mean %{near[0]}%?" if near else f"known: {', '.join(VARIABLES)}"
            raise ValueError(f"unknown variable %{name}%; {hint}")
        found = known
    if found.phase > phase:
        raise ValueError(f"%{name}% has its value {_WHEN[found.phase]}, not {_WHEN[phase]}")
    return found


@final
class Template:
    """A text with variables, ready to be filled in."""

    __slots__ = ("_cuts", "_form", "_parts", "_reads", "constant", "head_only")

    constant: Final[str | None]
    """The text itself if it has no variables."""
    head_only: Final[bool]
    """It depends on nothing but the request head."""

    def __init__(self, text: str, phase: Phase, secrets: SecretNames | None = None) -> None:
        """Compile ``text``; ``%%`` stands for a percent sign. Raises ValueError that names what is wrong.

        ``secrets``: headers and arguments of these names are not told; None: all are, as the text goes upstream.
        """
        self._parts: list[str | tuple[Variable, int]] = []
        position = 0
        literal = ""
        while position < len(text):
            if text[position] != "%":
                end = text.find("%", position)
                end = len(text) if end < 0 else end
                literal += text[position:end]
                position = end
                continue
            match = _ITEM.match(text, position)
            if match is None:
                shown = text[position : position + 30]
                raise ValueError(f"{shown!r}: a % begins a %variable%; write %% for a percent sign")
            position = match.end()
            if match["name"] is None:
                literal += "%"
                continue
            if literal:
                self._parts.append(literal)
                literal = ""
            found = variable(match["name"], match["argument"], phase)
            if secrets is not None and match["argument"] is not None:
                found = _hidden(found, match["argument"], secrets)
            self._parts.append((found, int(match["length"] or 0)))
        if literal:
            self._parts.append(literal)
        variables = [part[0] for part in self._parts if not isinstance(part, str)]
        self.constant = None if variables else "".join(map(str, self._parts))
        self.head_only = all(one.head_only for one in variables)
        self._cuts = any(not isinstance(part, str) and part[1] for part in self._parts)
        # A line of a log has twenty parts: where none is cut off they are put in at once.
        self._form = "".join(
            part.replace("%", "%%") if isinstance(part, str) else "%s" for part in self._parts
        )
        self._reads = [one.read for one in variables]

    def render(self, moment: Moment, clean: Clean = clean_text) -> str:
        """Return the text with every value put in; ``-`` where there is none."""
        if self.constant is not None:
            return self.constant
        if not self._cuts:
            return self._form % tuple(
                [
                    "-"
                    if (value := read(moment)) is None
                    else clean(value)
                    if isinstance(value, str)
                    else value
                    for read in self._reads
                ]
            )
        return "".join(
            [part if isinstance(part, str) else _shown(part, moment, clean) for part in self._parts]
        )

    def value(self, moment: Moment, clean: Clean = str) -> Value:
        """Return the value itself if the template is a single variable, else the text."""
        if len(self._parts) == 1 and not isinstance(part := self._parts[0], str):
            found = part[0].read(moment)
            if not isinstance(found, str):
                return found
            found = clean(found)
            return found[: part[1]] if part[1] else found
        return self.render(moment, clean)


def _hidden(found: Variable, argument: str, secrets: SecretNames) -> Variable:
    if not any(secrets.hides(name.strip()) for name in argument.split("?")):
        return found
    return attrs.evolve(found, read=lambda moment: None if found.read(moment) is None else REDACTED)


def _shown(part: tuple[Variable, int], moment: Moment, clean: Clean) -> str:
    found, length = part
    value = found.read(moment)
    if value is None:
        return "-"
    text = clean(value) if isinstance(value, str) else str(value)
    return text[:length] if length else text
