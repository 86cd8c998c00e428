# ruff: noqa: E501  # a table: one message a line
"""First messages of protocols that no codec here speaks, built from their specifications: what detection must not claim.

Each is what a client sends before it hears anything, or its first command where the server speaks first.
"""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Foreign:
    """What the client of another protocol sends first."""

    name: str
    data: bytes
    source: str
    """Where its form is specified."""


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


def _le(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little")


def _sized(body: bytes, size: int = 4) -> bytes:
    return len(body).to_bytes(size) + body


def _mongo(total: int) -> bytes:
    """OP_MSG {hello: 1, $db: "admin", x: "aaa…"}, ``total`` bytes long."""
    start = _hex("10") + b"hello\0" + _le(1) + _hex("02") + b"$db\0" + _le(6) + b"admin\0"
    fill = total - 16 - 4 - 1 - 4 - len(start) - 3 - 4 - 1 - 1
    document = start + _hex("02") + b"x\0" + _le(fill + 1) + b"a" * fill + b"\0" + b"\0"
    body = _le(0) + b"\0" + _le(len(document) + 4) + document
    return _le(16 + len(body)) + _le(1) + _le(0) + _le(2013) + body


def _kafka(key: int, version: int, body: bytes = b"") -> bytes:
    client = b"rdkafka"
    start = key.to_bytes(2) + version.to_bytes(2) + (1).to_bytes(4)
    return _sized(start + len(client).to_bytes(2) + client + body)


_ROCKETMQ: Final = (
    b'{"code":34,"extFields":{},"flag":0,"language":"JAVA","opaque":0,'
    b'"serializeTypeCurrentRPC":"JSON","version":435}'
)
_DNS: Final = _hex("00010000 00000000") + b"\7example\4test\0" + _hex("00010001")
_AVRO: Final = bytes(range(16)) + b"\0" + bytes(range(16)) + b"\0"
_WIKI: Final = "the protocol's public description"

BINARY: Final = (
    Foreign("Pulsar CONNECT", _sized(_sized(_hex("0802 12 15 0a 05 322e 39 2e 31 1a 00 20 13 2a 04 6e6f6e65 52 03 616263"))), "Pulsar binary protocol: simple commands"),
    Foreign("Pulsar PARTITIONED_METADATA", _sized(_sized(_hex("0815 aa01 0b 0a 07 6d79746f706963 1001"))), "Pulsar binary protocol"),
    Foreign("Kafka ApiVersions v0", _kafka(18, 0), "Kafka protocol: request header v1"),
    Foreign("Kafka ApiVersions v3", _kafka(18, 3, b"\0\x0bapache-kafka\x063.7.0\0"), "Kafka protocol: request header v2"),
    Foreign("Kafka Metadata", _kafka(3, 9, b"\0\2\5test\0\1\0\0\0"), "Kafka protocol: Metadata"),
    Foreign("Kafka Produce", _kafka(0, 7, _hex("ffff 0001 00007530 00000001 0004") + b"test" + _hex("00000001 00000000 00000010") + bytes(16)), "Kafka protocol: Produce"),
    Foreign("Kafka Fetch", _kafka(1, 4, _hex("ffffffff 000001f4 00000001 00000000")), "Kafka protocol: Fetch"),
    Foreign("RocketMQ heartbeat, JSON", _sized(len(_ROCKETMQ).to_bytes(4) + _ROCKETMQ), "RocketMQ remoting: RemotingCommand"),
    Foreign("RocketMQ with a body", _sized(len(_ROCKETMQ).to_bytes(4) + _ROCKETMQ + b'{"clientID":"a"}'), "RocketMQ remoting: RemotingCommand"),
    Foreign("RocketMQ, its own serialisation", _sized(_hex("01000018 0069 00 01b3 00000001 00000000 00000000 00000003") + b"abc"), "RocketMQ remoting: RocketMQSerializable"),
    Foreign("Gearman CAN_DO", b"\0REQ" + _hex("00000001 00000004") + b"echo", "Gearman protocol: binary packet"),
    Foreign("Gearman SUBMIT_JOB", b"\0REQ" + _hex("00000007 00000009") + b"echo\0id\0x", "Gearman protocol: binary packet"),
    Foreign("Gearman ECHO_REQ", b"\0REQ" + _hex("00000010 00000004") + b"ping", "Gearman protocol: binary packet"),
    Foreign("yamux window update, SYN", _hex("00 01 0001 00000001 00000000"), "hashicorp/yamux spec.md"),
    Foreign("yamux data, SYN", _hex("00 00 0001 00000001 00000004") + b"ping", "hashicorp/yamux spec.md"),
    Foreign("yamux ping", _hex("00 02 0001 00000000 00000001"), "hashicorp/yamux spec.md"),
    Foreign("DNS over TCP, recursion wanted", _sized(_hex("abcd 0100") + _DNS, 2), "RFC 1035 §4.2.2"),
    Foreign("DNS over TCP, no flags", _sized(_hex("1234 0000") + _DNS, 2), "RFC 1035 §4.2.2"),
    Foreign("DNS over TCP, AXFR", _sized(_hex("0001 0000") + _DNS[:-4] + _hex("00fc0001"), 2), "RFC 5936"),
    Foreign("memcached binary GET", _hex("80 00 0005 00 00 0000 00000005 00000000") + bytes(8) + b"hello", "memcached BinaryProtocolRevamped"),
    Foreign("memcached binary SET", _hex("80 01 0005 08 00 0000 00000012 00000000") + bytes(8) + _hex("deadbeef00001c20") + b"helloworld", "memcached BinaryProtocolRevamped"),
    Foreign("memcached binary SET, key of one byte", _hex("80 01 0001 08 00 0000 0000000a 00000000") + bytes(8) + bytes(8) + b"ax", "memcached BinaryProtocolRevamped"),
    Foreign("memcached binary NOOP", _hex("80 0a 0000 00 00 0000 00000000 00000000") + bytes(8), "memcached BinaryProtocolRevamped"),
    Foreign("Avro handshake over Netty", _hex("00000001 00000002") + _sized(_AVRO) + _sized(b"\0\4ping"), "Avro IPC: NettyTransportCodec"),
    Foreign("Avro framed handshake", _sized(_AVRO) + _sized(b""), "Avro specification: message framing"),
    Foreign("MongoDB OP_MSG hello of 257 bytes", _mongo(257), "MongoDB wire protocol: OP_MSG"),
    Foreign("MongoDB OP_MSG hello of 513 bytes", _mongo(513), "MongoDB wire protocol: OP_MSG"),
    Foreign("MongoDB OP_MSG hello of 300 bytes", _mongo(300), "MongoDB wire protocol: OP_MSG"),
    Foreign("MongoDB OP_QUERY isMaster", _hex("3a000000 01000000 00000000 d4070000 00000000") + b"admin.$cmd\0" + _hex("00000000 ffffffff 13000000 10") + b"isMaster\0" + _hex("01000000 00"), "MongoDB wire protocol: OP_QUERY"),
    Foreign("Thrift SASL PLAIN", _hex("01 00000005") + b"PLAIN" + _hex("05 00000005") + b"\0a\0b\0", "Thrift: TSaslTransport"),
    Foreign("Thrift SASL GSSAPI", _hex("01 00000006") + b"GSSAPI", "Thrift: TSaslTransport"),
    Foreign("LDAP bind", _hex("300c 0201 01 6007 0201 03 0400 8000"), "RFC 4511 §4.2"),
    Foreign("SMB1 negotiate", _hex("0000002f ff534d42 72 00000000 18 01c8") + bytes(16) + _hex("ffff 0000 0000 00 0c00 02") + b"NT LM 0.12\0", "MS-CIFS §2.2.4.52"),
    Foreign("SMB2 negotiate", _hex("00000066 fe534d42 4000 0000 00000000 0000 0100") + bytes(48) + _hex("2400 0100 0100 0000 00000000") + bytes(24) + _hex("0202"), "MS-SMB2 §2.2.3"),
    Foreign("NetBIOS session request", _hex("81000044 20") + b"CKFDENECFDEFFCFGEFFCCACACACACACA\0" + _hex("20") + b"EKEBFACACACACACACACACACACACACAAA\0", "RFC 1002 §4.3.2"),
    Foreign("RDP connection request", _hex("03000013 0e e0 0000 0000 00 01 00 0800 03000000"), "MS-RDPBCGR §2.2.1.1"),
    Foreign("S7comm, COTP connection", _hex("03000016 11 e0 0000 0001 00 c10201 00 c2020102 c0010a"), "RFC 1006, ISO 8073"),
    Foreign("PostgreSQL startup", _hex("00000021 00030000") + b"user\0me\0database\0db\0\0", "PostgreSQL: StartupMessage"),
    Foreign("PostgreSQL SSLRequest", _hex("00000008 04d2162f"), "PostgreSQL: SSLRequest"),
    Foreign("PostgreSQL GSSENCRequest", _hex("00000008 04d21630"), "PostgreSQL: GSSENCRequest"),
    Foreign("PostgreSQL CancelRequest", _hex("00000010 04d2162e 00001234 00005678"), "PostgreSQL: CancelRequest"),
    Foreign("MySQL handshake response", _hex("20000001 85a6ff01 00000001 21") + bytes(23), "MySQL: Protocol::HandshakeResponse41 (the server speaks first)"),
    Foreign("MySQL SSL request of 256 bytes", _hex("00010001 85aeff01 00000001 21") + bytes(247), "MySQL: Protocol::SSLRequest"),
    Foreign("Cassandra CQL v4 OPTIONS", _hex("04 00 0000 05 00000000"), "CQL binary protocol v4 §2"),
    Foreign("Cassandra CQL v5 STARTUP", _hex("05 00 0000 01 00000016 0001 000b") + b"CQL_VERSION" + _hex("0005") + b"3.0.0", "CQL binary protocol v5"),
    Foreign("Cassandra CQL v1 STARTUP", _hex("01 00 00 01 00000016 0001 000b") + b"CQL_VERSION" + _hex("0005") + b"3.0.0", "CQL binary protocol v1"),
    Foreign("Cassandra CQL v1, compressed", _hex("01 01 00 05 00000000"), "CQL binary protocol v1"),
    Foreign("Cassandra CQL v2 OPTIONS", _hex("02 00 00 05 00000000"), "CQL binary protocol v2"),
    Foreign("Cassandra CQL v2, traced", _hex("02 02 00 01 00000016 0001 000b") + b"CQL_VERSION" + _hex("0005") + b"3.0.0", "CQL binary protocol v2"),
    Foreign("AMQP 0-9-1", b"AMQP\0\0\x09\x01", "AMQP 0-9-1 §4.2.2"),
    Foreign("AMQP 1.0", b"AMQP\0\1\0\0", "AMQP 1.0 §2.2"),
    Foreign("AMQP 1.0 with SASL", b"AMQP\3\1\0\0", "AMQP 1.0 §5.3.2"),
    Foreign("MQTT 3.1.1 CONNECT", _hex("100d 0004 4d515454 04 02 003c 0001 61"), "MQTT 3.1.1 §3.1"),
    Foreign("MQTT 5 CONNECT", _hex("100e 0004 4d515454 05 02 003c 00 0001 61"), "MQTT 5.0 §3.1"),
    Foreign("ZooKeeper connect", _hex("0000002d 00000000") + bytes(8) + _hex("00007530") + bytes(8) + _hex("00000010") + bytes(17), "ZooKeeper: ConnectRequest"),
    Foreign("ZooKeeper ruok", b"ruok", "ZooKeeper: four letter words"),
    Foreign("Erlang EPMD NAMES_REQ", _hex("0001 6e"), "Erlang distribution protocol: EPMD"),
    Foreign("Erlang EPMD ALIVE2_REQ", _hex("0014 78 8235 4d 00 0006 0005 0007") + b"node@me" + _hex("0000"), "Erlang distribution protocol: EPMD"),
    Foreign("Erlang EPMD PORT_PLEASE2", _hex("0005 7a") + b"node", "Erlang distribution protocol: EPMD"),
    Foreign("Erlang distribution handshake", _hex("001a 4e 0000000d07df7fbd 00000001 0009") + b"a@b.local", "Erlang distribution protocol: send_name"),
    Foreign("Modbus TCP, read registers", _hex("0001 0000 0006 01 03 0000 000a"), "Modbus messaging on TCP/IP §3"),
    Foreign("Modbus TCP, transaction 0", _hex("0000 0000 0006 ff 04 0001 0001"), "Modbus messaging on TCP/IP §3"),
    Foreign("Modbus TCP, transaction 257", _hex("0101 0000 0006 01 03 0000 0001"), "Modbus messaging on TCP/IP §3"),
    Foreign("BGP OPEN", b"\xff" * 16 + _hex("001d 01 04 fde8 00b4 0a000001 00"), "RFC 4271 §4.2"),
    Foreign("BitTorrent handshake", b"\x13BitTorrent protocol" + bytes(8) + bytes(range(40)), "BEP 3"),
    Foreign("SOCKS4 CONNECT", _hex("0401 0050 c0000201") + b"me\0", "SOCKS 4"),
    Foreign("SOCKS5 greeting", _hex("05020002"), "RFC 1928 §3"),
    Foreign("Telnet negotiation", _hex("fffb1f fffb20 fffb18 fffb27 fffd01"), "RFC 854"),
    Foreign("Minecraft handshake", _hex("1000f20509") + b"localhost" + _hex("63dd 01"), "Minecraft: Server List Ping"),
    Foreign("Aerospike info", _hex("0201 000000000006") + b"build\n", "Aerospike wire protocol: as_proto"),
    Foreign("Aerospike message", _hex("0203 000000000016 16") + bytes(21), "Aerospike wire protocol: as_msg"),
    Foreign("Tarantool ping", _hex("ce00000005 8200400101"), "Tarantool: IPROTO (the server speaks first)"),
    Foreign("ClickHouse native hello", b"\0\x11ClickHouse client" + _hex("1805 a9a903 00") + b"\7default\0", "ClickHouse native protocol: Hello"),
    Foreign("Oracle TNS connect", _hex("003a 0000 01 00 0000 0136 012c 0000 0800 7fff 4f98 0000 0001 0000 003a") + bytes(28), "Oracle Net: connect packet"),
    Foreign("TDS prelogin", _hex("1201 002f 0000 0100 00001a 0006 01 0020 0001 02 0021 0001 03 0022 0004 04 0026 0001 ff") + bytes(13), "MS-TDS §2.2.6.5"),
    Foreign("Hazelcast client", b"CP2", "Hazelcast open binary client protocol"),
    Foreign("Hazelcast member", b"HZC", "Hazelcast: Protocols"),
    Foreign("Ignite thin client", _hex("08000000 01 0100 0700 0000 02"), "Ignite binary client protocol: handshake"),
    Foreign("RSocket SETUP", _hex("00002f 00000000 0400 0001 0000 00007530 0001d4c0 18") + b"application/octet-stream" + _hex("05") + b"a/b;c", "RSocket protocol 1.0, TCP framing"),
    Foreign("fbthrift Rocket SETUP", _hex("000022 00000000 0440 0001 0000 7fffffff 7fffffff 0a") + b"text/plain" + b"\0", "RSocket protocol 1.0; fbthrift: Rocket"),
    Foreign("X11, little-endian", _hex("6c00 0b00 0000 0000 0000 0000"), "X11: connection setup"),
    Foreign("X11, big-endian", _hex("4200 000b 0000 0000 0000 0000"), "X11: connection setup"),
    Foreign("PPTP start control connection", _hex("009c 0001 1a2b3c4d 0001 0000 0100 0000 00000003 00000003") + bytes(132), "RFC 2637 §2.1"),
    Foreign("DICOM A-ASSOCIATE-RQ", _hex("0100 000000cd 0001 0000") + b"ANY-SCP".ljust(16) + b"ECHOSCU".ljust(16) + bytes(32), "DICOM PS3.8 §9.3.2"),
    Foreign("HL7 over MLLP", b"\x0bMSH|^~\\&|A|B|C|D|20240101||ADT^A01|1|P|2.3\r\x1c\r", "HL7 MLLP"),
    Foreign("IEC 60870-5-104 STARTDT", _hex("68 04 07 00 00 00"), "IEC 60870-5-104 §5.3"),
    Foreign("OPC UA HEL", b"HELF" + _le(50) + _le(0) + _le(65536) * 2 + _le(0) * 2 + _le(18) + b"opc.tcp://a.b:4840", "OPC UA part 6 §7.1.2.3"),
    Foreign("FIX logon", b"8=FIX.4.4\x019=65\x0135=A\x0149=A\x0156=B\x0134=1\x0152=20240101-00:00:00\x0198=0\x01108=30\x0110=000\x01", "FIX 4.4"),
    Foreign("CoAP over TCP, CSM", _hex("00 e1"), "RFC 8323 §5.3"),
    Foreign("CoAP over TCP, CSM with options", _hex("30 e1 22 0480"), "RFC 8323 §5.3"),
    Foreign("DoIP routing activation", _hex("02fd 0005 00000007 0e00 00 00000000"), "ISO 13400-2"),
    Foreign("SOME/IP request", _hex("0101 0001 00000008 0001 0001 01 01 00 00"), "AUTOSAR SOME/IP §4.1.2"),
    Foreign("SOME/IP magic cookie", _hex("ffff 0000 00000008 dead beef 01 01 01 00"), "AUTOSAR SOME/IP §4.2.2"),
    Foreign("FastCGI BEGIN_REQUEST", _hex("01 01 0001 0008 00 00 0001 00 0000000000"), "FastCGI 1.0 §3.3"),
    Foreign("FastCGI GET_VALUES", _hex("01 09 0000 0000 00 00"), "FastCGI 1.0 §4.1"),
    Foreign("uwsgi", b"\0" + _le(29, 2) + b"\0" + _le(14, 2) + b"REQUEST_METHOD" + _le(3, 2) + b"GET" + _le(4, 2) + b"\0\0\0\0", "uWSGI: the uwsgi protocol"),
    Foreign("AJP13 forward request", _hex("1234 0010 02 02 0008") + b"HTTP/1.1" + _hex("00 00 00"), "AJPv13"),
    Foreign("ONC RPC over TCP (NFS)", _hex("80000028 00000001 00000000 00000002 000186a3 00000003 00000000") + bytes(16), "RFC 5531 §11"),
    Foreign("Diameter CER", _hex("01 000064 80 000101 00000000 00000001 00000002") + bytes(80), "RFC 6733 §5.3.1"),
    Foreign("LDP initialisation", _hex("0001 001c 0a000001 0000 0200 0012 00000001 0500 000e 0001 000f 00 00 0000"), "RFC 5036 §3.1"),
    Foreign("RTMP C0 and C1", _hex("03 00000000 00000000") + bytes(range(256)) * 2, "RTMP 1.0 §5.2"),
    Foreign("TACACS+ authentication", _hex("c0 01 01 00 00000001 00000010") + bytes(16), "RFC 8907 §4.1"),
    Foreign("Tars", _hex("0000002c 10 01 2c 3c 40 01 56 04") + b"a.b.c" + bytes(26), "Tars: RequestPacket"),
    Foreign("Dubbo over Thrift", _hex("00000030 dabc 00000030 0010 01 00000004") + b"demo" + bytes(24), "Dubbo: ThriftCodec"),
    Foreign("SSL 2 hello", _hex("802e 01 0301 0015 0000 0010 000004") + bytes(32), "RFC 5246 appendix E.2"),
    Foreign("Zabbix agent", b"ZBXD\x01" + _le(9, 8) + b"agent.ping"[:9], "Zabbix: header"),
    Foreign("Fluentd forward", _hex("93 a3") + b"tag" + _hex("ce 65000000 81 a1") + b"k" + _hex("a1") + b"v", "Fluentd forward protocol v1"),
    Foreign("NSQ", b"  V2", "NSQ: TCP protocol"),
    Foreign("Ceph messenger v2", b"ceph v2\n" + _hex("1000") + bytes(16), "Ceph: msgr2"),
    Foreign("Neo4j's Bolt", _hex("6060b017 00000404 00000304 00000002 00000000"), "Neo4j Bolt: handshake"),
    Foreign("LSP over TCP", b"Content-Length: 20\r\n\r\n" + b'{"jsonrpc":"2.0"}   ', "Language Server Protocol: base protocol"),
)  # fmt: skip
"""Those that count in bytes."""

TEXT: Final = (
    Foreign("SIP OPTIONS", b"OPTIONS sip:bob@b.test SIP/2.0\r\nVia: SIP/2.0/TCP a\r\n\r\n", "RFC 3261 §7.1"),
    Foreign("SIP REGISTER", b"REGISTER sip:b.test SIP/2.0\r\nVia: SIP/2.0/TCP a\r\n\r\n", "RFC 3261 §7.1"),
    Foreign("SIP INVITE", b"INVITE sip:bob@b.test SIP/2.0\r\nVia: SIP/2.0/TCP a\r\n\r\n", "RFC 3261 §7.1"),
    Foreign("RTSP OPTIONS", b"OPTIONS rtsp://a.test/b RTSP/1.0\r\nCSeq: 1\r\n\r\n", "RFC 2326 §6"),
    Foreign("RTSP OPTIONS *", b"OPTIONS * RTSP/2.0\r\nCSeq: 1\r\n\r\n", "RFC 7826"),
    Foreign("RTSP DESCRIBE", b"DESCRIBE rtsp://a.test/b RTSP/1.0\r\nCSeq: 1\r\n\r\n", "RFC 2326 §6"),
    Foreign("ICAP OPTIONS", b"OPTIONS icap://a.test/b ICAP/1.0\r\nHost: a\r\n\r\n", "RFC 3507 §4.3"),
    Foreign("ICAP REQMOD", b"REQMOD icap://a.test/b ICAP/1.0\r\nHost: a\r\n\r\n", "RFC 3507 §4.3"),
    Foreign("MSRP SEND", b"MSRP a786hjs2 SEND\r\nTo-Path: msrp://a\r\n", "RFC 4975 §9"),
    Foreign("Redis RESP PING", b"*1\r\n$4\r\nPING\r\n", "Redis: RESP"),
    Foreign("Redis RESP HELLO", b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", "Redis: RESP"),
    Foreign("Redis inline PING", b"PING\r\n", "Redis: inline commands"),
    Foreign("Redis inline GET", b"GET key\r\n", "Redis: inline commands"),
    Foreign("Redis inline SET", b"SET key value\r\n", "Redis: inline commands"),
    Foreign("memcached get", b"get key\r\n", "memcached protocol.txt"),
    Foreign("memcached set", b"set key 0 0 5\r\nhello\r\n", "memcached protocol.txt"),
    Foreign("memcached version", b"version\r\n", "memcached protocol.txt"),
    Foreign("beanstalkd put", b"put 0 0 60 5\r\nhello\r\n", "beanstalkd protocol.txt"),
    Foreign("IRC NICK", b"NICK me\r\nUSER me 0 * :me\r\n", "RFC 2812 §3.1"),
    Foreign("IRC CAP", b"CAP LS 302\r\n", "IRCv3: capability negotiation"),
    Foreign("SMTP EHLO", b"EHLO a.test\r\n", "RFC 5321 §4.1.1.1"),
    Foreign("SMTP HELO", b"HELO a.test\r\n", "RFC 5321 §4.1.1.1"),
    Foreign("LMTP LHLO", b"LHLO a.test\r\n", "RFC 2033"),
    Foreign("FTP USER", b"USER anonymous\r\n", "RFC 959 §4.1"),
    Foreign("FTP OPTS", b"OPTS UTF8 ON\r\n", "RFC 2389"),
    Foreign("POP3 CAPA", b"CAPA\r\n", "RFC 2449"),
    Foreign("IMAP CAPABILITY", b"a1 CAPABILITY\r\n", "RFC 9051 §6.1.1"),
    Foreign("ManageSieve", b'AUTHENTICATE "PLAIN" "AGEAYg=="\r\n', "RFC 5804"),
    Foreign("NNTP MODE", b"MODE READER\r\n", "RFC 3977"),
    Foreign("VNC version", b"RFB 003.008\n", "RFC 6143 §7.1.1"),
    Foreign("SSH version", b"SSH-2.0-OpenSSH_9.6\r\n", "RFC 4253 §4.2"),
    Foreign("NATS CONNECT", b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n', "NATS client protocol"),
    Foreign("STOMP CONNECT", b"CONNECT\naccept-version:1.2\nhost:a.test\n\n\0", "STOMP 1.2"),
    Foreign("STOMP STOMP", b"STOMP\naccept-version:1.2\nhost:a.test\n\n\0", "STOMP 1.2"),
    Foreign("XMPP stream", b"<?xml version='1.0'?><stream:stream to='a.test' xmlns='jabber:client'>", "RFC 6120 §4.2"),
    Foreign("Finger", b"bob\r\n", "RFC 1288"),
    Foreign("WHOIS", b"example.test\r\n", "RFC 3912"),
    Foreign("Gopher, the root", b"\r\n", "RFC 1436"),
    Foreign("Gopher selector", b"0/about\r\n", "RFC 1436"),
    Foreign("Gemini", b"gemini://a.test/\r\n", "Gemini: request"),
    Foreign("rsync daemon", b"@RSYNCD: 31.0\n", "rsync: daemon protocol"),
    Foreign("git daemon", b"0032git-upload-pack /project.git\0host=myserver.com\0", "gitprotocol-pack"),
    Foreign("Subversion", b"( 2 ( edit-pipeline svndiff1 ) 15:svn://a.test/r  ) ", "Subversion: ra_svn"),
    Foreign("CVS pserver", b"BEGIN AUTH REQUEST\n/cvsroot\nme\nA\nEND AUTH REQUEST\n", "CVS client/server protocol"),
    Foreign("Graphite", b"a.b.c 1 1700000000\n", "Graphite: plaintext protocol"),
    Foreign("StatsD over TCP", b"a.b:1|c\n", "StatsD"),
    Foreign("syslog over TCP", b"<34>1 2024-01-01T00:00:00Z a su - - - x\n", "RFC 6587"),
    Foreign("OpenTSDB put", b"put a.b 1700000000 1 host=a\n", "OpenTSDB: telnet protocol"),
    Foreign("JSON-RPC over TCP", b'{"jsonrpc":"2.0","method":"a","id":1}\n', "JSON-RPC 2.0"),
    Foreign("OCPP-J call in bare JSON", b'[2,"19223201","BootNotification",{}]', "OCPP-J 1.6 §4.2.1"),
    Foreign("JSON array", b'[1,"a",{"b":2}]\n', "RFC 8259"),
    Foreign("Asterisk manager", b"Action: Login\r\nUsername: a\r\nSecret: b\r\n\r\n", "Asterisk: AMI"),
    Foreign("FreeSWITCH event socket", b"auth ClueCon\n\n", "FreeSWITCH: mod_event_socket"),
    Foreign("MPD", b"status\n", "MPD protocol"),
    Foreign("clamd", b"zPING\0", "clamd: commands"),
    Foreign("SpamAssassin", b"PING SPAMC/1.2\r\n\r\n", "SpamAssassin: spamd protocol"),
    Foreign("Postfix policy", b"request=smtpd_access_policy\nprotocol_state=RCPT\n\n", "Postfix: SMTPD_POLICY_README"),
    Foreign("HAProxy agent-check", b"ready up 100%\n", "HAProxy: agent-check"),
    Foreign("LPD print", b"\x02lp\n", "RFC 1179 §5"),
    Foreign("Ident", b"6193, 23\r\n", "RFC 1413"),
    Foreign("SCGI", b"24:CONTENT_LENGTH\x000\x00SCGI\x001\x00,", "SCGI: a simple common gateway interface"),
    Foreign("JDWP", b"JDWP-Handshake", "Java Debug Wire Protocol"),
    Foreign("Java RMI", b"JRMI\0\2K", "Java RMI: wire protocol"),
    Foreign("CORBA GIOP", b"GIOP\1\2\1\0" + _le(32) + bytes(32), "CORBA: GIOP 1.2"),
)  # fmt: skip
"""Those that begin with text."""

FOREIGN: Final = (*BINARY, *TEXT)
"""All of them: more than a hundred."""
