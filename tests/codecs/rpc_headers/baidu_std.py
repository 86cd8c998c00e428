"""baidu_std (brpc): ``PRPC`` · size of meta and payload 4 · size of meta 4 · meta in Protocol Buffers · payload.

RpcMeta: 1 request {1 service, 2 method} · 2 response {1 code, 2 text} · 4 correlation id.
"""

from tests.codecs.rpc_headers.languages import read_fields, write_field
from xproxy.api import Kind, LaidOut, Said, Status, Values


def read(values: Values) -> Said:
    meta = read_fields(values["meta"])
    asked, told = read_fields(meta.get(1, b"")), read_fields(meta.get(2, b""))
    return Said(
        kind=Kind.REQUEST if 1 in meta else Kind.RESPONSE,
        id=meta.get(4, 0),
        service=asked.get(1, b"").decode(),
        method=asked.get(2, b"").decode(),
        status=told.get(1, 0),
        body=values["payload"],
    )


def write(said: Said, known: Values) -> Values:
    if said.kind is Kind.REQUEST:
        inner = write_field(
            1, write_field(1, said.service.encode()) + write_field(2, said.method.encode())
        )
    else:
        inner = write_field(2, write_field(1, said.status))
    others = {n: v for n, v in read_fields(known.get("meta", b"")).items() if n not in (1, 2, 4)}
    meta = (
        inner
        + write_field(4, int(said.id))
        + b"".join(write_field(n, v) for n, v in others.items())
    )
    return {"meta": meta, "payload": said.body}


PLUGIN = LaidOut(
    name="baidu_std",
    magic=b"PRPC",
    layout={"magic": "4s", "size": "I=rest-4", "meta_size": "I=meta", "meta": "*", "payload": "*"},
    read=read,
    write=write,
    statuses={
        0: Status.OK,
        2001: Status.INTERNAL,
        1001: Status.NOT_FOUND,
        1002: Status.UNIMPLEMENTED,
        1008: Status.DEADLINE_EXCEEDED,
    },
    id_bits=64,
)
