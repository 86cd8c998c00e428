"""What a link remembers of its streams.

======================  =======================================  ==========================================
                        the side that serves them (SERVER)       the side that has the client (CLIENT)
======================  =======================================  ==========================================
``credit``              body bytes that may still be sent        body bytes that may still come
``speaking``            our answer has not ended                 our request has not ended
``hearing``             the request has not ended                the answer has not ended
``spoken``              our head is out                          likewise
``heard``               the head has come                        likewise
======================  =======================================  ==========================================

A stream that is over in both directions, or reset, is forgotten. What is sent on it then is swallowed, and what comes
for it ignored: the other side could not know yet.
"""

from __future__ import annotations

import attrs

from xproxy.model.traits import Role


@attrs.define(eq=False)
class Stream:
    """One stream; see the module."""

    credit: int = 0
    speaking: bool = True
    hearing: bool = True
    spoken: bool = False
    heard: bool = False


@attrs.define(eq=False)
class State:
    """All that a link's future depends on."""

    role: Role
    whole: bool = False
    """Messages go whole, as the client reads them: there are no windows, and MESSAGE stands where DATA would."""
    streams: dict[int, Stream] = attrs.field(factory=dict)
    held: bytes = b""
    """Bytes that have come, and no frame was given for."""
    bye: bool = False
    """The other side has said it, or we have."""
    violated: bool = False
