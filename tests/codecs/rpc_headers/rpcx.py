"""rpcx: ``08 00`` · flags 1 · serialisation 1 · id 8 · size of the rest 4 · path, method, metadata, payload."""

from tests.codecs.rpc_headers.languages import read_pairs, write_pairs
from xproxy.api import Kind, LaidOut, Said, Status, Values

RESPONSE, HEARTBEAT, ONEWAY, STATUS = 0x80, 0x40, 0x20, 0x03
FLAGS = {
    Kind.REQUEST: 0,
    Kind.RESPONSE: RESPONSE,
    Kind.ONEWAY: ONEWAY,
    Kind.HEARTBEAT: HEARTBEAT,
    Kind.HEARTBEAT_ACK: HEARTBEAT | RESPONSE,
}
KINDS = {flags: kind for kind, flags in FLAGS.items()}


def read(values: Values) -> Said:
    return Said(
        kind=KINDS[values["flags"] & (RESPONSE | HEARTBEAT | ONEWAY)],
        id=values["id"],
        service=values["path"].decode(),
        method=values["method"].decode(),
        headers=read_pairs(values["meta"], 4),
        status=values["flags"] & STATUS,
        body=values["payload"],
    )


def write(said: Said, known: Values) -> Values:
    return {
        "flags": FLAGS[said.kind] | said.status,
        "codec": known.get("codec", 0x10),
        "id": said.id,
        "path": said.service.encode(),
        "method": said.method.encode(),
        "meta": write_pairs(said.headers, 4),
        "payload": said.body,
    }


PLUGIN = LaidOut(
    name="rpcx",
    magic=b"\x08\x00",
    layout={
        "magic": "2s",
        "flags": "B",
        "codec": "B",
        "id": "Q",
        "size": "I=rest",
        "path": "I*",
        "method": "I*",
        "meta": "I*",
        "payload": "I*",
    },
    read=read,
    write=write,
    echo=("codec",),
    kinds=frozenset(FLAGS),
    statuses={0: Status.OK, 1: Status.INTERNAL},
    id_bits=64,
)
