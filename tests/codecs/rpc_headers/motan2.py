"""Motan 2: ``F1 F1`` · flags 1 · version, status 1 · serialisation 1 · id 8 · metadata, body: each behind 4."""

from xproxy.api import Kind, LaidOut, Said, Status, Values

FLAGS = {
    Kind.REQUEST: 0x00,
    Kind.RESPONSE: 0x01,
    Kind.ONEWAY: 0x04,
    Kind.HEARTBEAT: 0x10,
    Kind.HEARTBEAT_ACK: 0x11,
}
KINDS = {flags: kind for kind, flags in FLAGS.items()}
VERSION, SERIALIZATION = 1 << 3, 6 << 3


def read(values: Values) -> Said:
    """Metadata is ``key \\n value \\n key \\n value``; ``M_p`` is the service, ``M_m`` the method."""
    words = values["meta"].decode().split("\n") if values["meta"] else []
    pairs = list(zip(words[::2], words[1::2], strict=True))
    named = dict(pairs)
    return Said(
        kind=KINDS[values["flags"] & 0x15],
        id=values["id"],
        service=named.get("M_p", ""),
        method=named.get("M_m", ""),
        headers=tuple(pair for pair in pairs if pair[0] not in ("M_p", "M_m")),
        status=values["state"] & 0x07,
        body=values["body"],
    )


def write(said: Said, known: Values) -> Values:
    target = [pair for pair in (("M_p", said.service), ("M_m", said.method)) if pair[1]]
    words = [word for pair in (*target, *said.headers) for word in pair]
    if any("\n" in word for word in words):
        raise ValueError("a line break in the metadata")
    return {
        "flags": FLAGS[said.kind],
        "state": VERSION | said.status,
        "codec": known.get("codec", SERIALIZATION),
        "id": said.id,
        "meta": "\n".join(words).encode(),
        "body": said.body,
    }


PLUGIN = LaidOut(
    name="motan2",
    magic=b"\xf1\xf1",
    layout={
        "magic": "2s",
        "flags": "B",
        "state": "B",
        "codec": "B",
        "id": "Q",
        "meta": "I*",
        "body": "I*",
    },
    read=read,
    write=write,
    echo=("codec",),
    kinds=frozenset(FLAGS),
    statuses={0: Status.OK, 1: Status.INTERNAL},
    id_bits=64,
)
