// npm's thrift as a peer: `node thrift_peer.js GENERATED serve`, or `… call DIALECT:PORT …`. As ../thrift_pypi.py.
'use strict';
const path = require('path');
const thrift = require('thrift');

const generated = path.resolve(process.argv[2]);
const Calc = require(path.join(generated, 'Calc'));
const types = require(path.join(generated, 'calc_types'));

const TRANSPORTS = { unframed: thrift.TBufferedTransport, framed: thrift.TFramedTransport };
const PROTOCOLS = {
  binary: thrift.TBinaryProtocol,
  compact: thrift.TCompactProtocol,
  json: thrift.TJSONProtocol,
};
const DIALECTS = [];
for (const transport of Object.keys(TRANSPORTS)) {
  for (const protocol of Object.keys(PROTOCOLS)) {
    DIALECTS.push(`${transport}-${protocol}`);
  }
}
// THeader is a protocol over the framed transport here. PyPI's resets a direct connection from it: hence its own name.
const THEADER = 'theader-binary';
DIALECTS.push(THEADER);

function options(dialect) {
  if (dialect.startsWith(THEADER)) {
    return { transport: thrift.TFramedTransport, protocol: thrift.THeaderProtocol };
  }
  const [transport, protocol] = dialect.split('-');
  return { transport: TRANSPORTS[transport], protocol: PROTOCOLS[protocol] };
}

const fired = new Set();
const handler = {
  add: (a, b, result) => result(null, a + b),
  echo: (s, result) => {
    if (s === 'crash') {
      const TE = thrift.Thrift.TApplicationException;
      return result(new TE(thrift.Thrift.TApplicationExceptionType.INTERNAL_ERROR, 'as asked'));
    }
    if (!s.startsWith('fired ')) return result(null, s);
    const token = Number(s.slice(6));
    const ends = Date.now() + 10000;
    const look = () => {
      if (fired.has(token) || Date.now() > ends) return result(null, String(fired.has(token)));
      setTimeout(look, 5);
    };
    look();
  },
  rec: (r, result) => {
    r.n += 1;
    result(null, r);
  },
  fire: (n) => fired.add(n),
  fail: (why, result) => result(new types.Bad({ why, code: -7 })),
  nothing: (result) => result(null),
};

async function serve() {
  const ports = {};
  for (const dialect of DIALECTS) {
    for (const suffix of ['', '-mux']) {
      let server;
      if (suffix) {
        const processor = new thrift.MultiplexedProcessor();
        processor.registerProcessor('Calc', new Calc.Processor(handler));
        server = thrift.createMultiplexServer(processor, options(dialect));
      } else {
        server = thrift.createServer(Calc, handler, options(dialect));
      }
      await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
      ports[dialect + suffix] = server.address().port;
    }
  }
  console.log(JSON.stringify(ports));
}

function shown(value) {
  return JSON.stringify(value, (name, inner) => {
    if (inner && inner.type === 'Buffer') return Buffer.from(inner.data).toString('hex');
    return typeof inner === 'bigint' ? String(inner) : inner;
  });
}

async function call(dialect, port) {
  const connection = thrift.createConnection('127.0.0.1', port, options(dialect));
  connection.on('error', (error) => {
    console.error(error);
    process.exit(1);
  });
  const client = dialect.endsWith('-mux')
    ? new thrift.Multiplexer().createClient('Calc', Calc, connection)
    : thrift.createClient(Calc, connection);
  const said = [];
  const note = async (name, made) => {
    try {
      said.push(`${name}: ${shown(await made())}`);
    } catch (error) {
      said.push(`${name}: ${error.name} ${error.type} ${error.why} ${error.code}`);
    }
  };
  const record = new types.Rec({
    name: 'grüße 𝄞', n: 41, tags: ['a', '', 'ü'], m: { x: 1099511627776, y: -1 },
    raw: Buffer.from([...Array(256).keys()]), d: -1.5e300, on: true, s: [-3, 300], c: 2, b: -128,
  });
  const token = Number(process.hrtime.bigint() % 2147483647n);
  // All at once first: npm's thrift gives each call an id of its own and does not wait.
  const burst = await Promise.all([...Array(50).keys()].map((n) => client.add(n, 1)));
  said.push(`burst: ${shown(burst)}`);
  await note('add', () => client.add(-5, 3));
  await note('echo', () => client.echo('grüße "\\" \n 𝄞'));
  await note('large', async () => (await client.echo('x'.repeat(100000))).length);
  await note('rec', () => client.rec(record));
  await note('empty rec', () => client.rec(new types.Rec({ n: 0 })));
  await note('fail', () => client.fail('because'));
  await note('crash', () => client.echo('crash'));
  client.fire(token);
  await note('fired', () => client.echo(`fired ${token}`));
  await note('nothing', () => client.nothing());
  await note('add', () => client.add(1, 2));
  connection.end();
  return said;
}

async function main() {
  if (process.argv[3] === 'serve') return serve();
  const told = {};
  for (const argument of process.argv.slice(4)) {
    const [dialect, port] = argument.split(':');
    told[dialect] = await call(dialect, Number(port));
  }
  console.log(JSON.stringify(told));
  process.exit(0);
}

main();
