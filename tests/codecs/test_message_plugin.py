"""What plugins of message protocols have in common: codecs with their options, also those that are restored."""

from __future__ import annotations

import pytest

from xproxy.codecs.bolt.plugin import BoltPlugin
from xproxy.codecs.dubbo.plugin import DubboPlugin
from xproxy.codecs.message_plugin import MessagePlugin
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("plugin", [BoltPlugin(), DubboPlugin(strict_target=False)])
def test_what_is_opened_can_be_restored(plugin: MessagePlugin, role: Role) -> None:
    codec = plugin.codec(role, DEFAULT_LIMITS)
    state = codec.snapshot()
    restored = plugin.restore(state, role, DEFAULT_LIMITS)
    assert type(restored) is type(plugin.open(role, DEFAULT_LIMITS)) is type(codec)
    with pytest.raises(ValueError, match="snapshot"):
        plugin.restore(b"nothing of the kind", role, DEFAULT_LIMITS)


@pytest.mark.parametrize("plugin", [BoltPlugin(), DubboPlugin()])
def test_codes_are_those_of_its_table(plugin: MessagePlugin) -> None:
    for status in Status:
        code = plugin.code_of(ResponseHead(status=status))
        assert code == plugin.statuses.to_native(status)
        assert plugin.status_of(code) is plugin.statuses.from_native(code)
