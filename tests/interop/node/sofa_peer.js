// npm's sofa-rpc-node as a peer, in Bolt (sofa-bolt-node: version 1, or 2 with or without CRC) and in Dubbo
// (dubbo-remoting): `node sofa_peer.js serve`, or `… call PROTOCOL:PORT …`. The server prints a port for each protocol
// as one line of JSON, the client what came of its calls. `… busy FILE PROTOCOL:PORT` keeps the server busy until the file is
// gone, and then calls it once more.
'use strict';
const fs = require('fs');
const bolt = require('sofa-bolt-node');
const dubbo = require('dubbo-remoting');
const { RpcClient } = require('sofa-rpc-node').client;
const { RpcServer } = require('sofa-rpc-node').server;

const logger = { info() {}, warn() {}, error() {}, debug() {} };
const INTERFACE = 'demo.Greeter';

// sofa-rpc-node makes encoders without asking which version of Bolt is wanted.
function speaking(version, crc) {
  const encoder = bolt.encoder;
  return Object.assign({}, bolt, {
    encoder(options) {
      const made = encoder.call(bolt, options);
      if (version === 2) made.protocolType = 'bolt2';
      made.boltVersion = version;
      made.crcEnable = crc;
      return made;
    },
  });
}

const PROTOCOLS = {
  'bolt': bolt,
  'bolt-2': speaking(2, false),
  'bolt-2-crc': speaking(2, true),
  dubbo,
};

function shown(value) {
  const text = JSON.stringify(value);
  return text && text.length > 1000 ? `${text.length} characters` : text;
}

const service = {
  async add(a, b) {
    return a + b;
  },
  async hello(name) {
    return `hello ${name}`;
  },
  async user(user) {
    return { name: user.name.toUpperCase(), tags: user.tags.concat('seen'), big: user.big };
  },
  async boom(why) {
    throw new Error(why);
  },
  async attachments(names) {
    const given = this.req.data.requestProps;
    return names.map((name) => String(given[name]));
  },
  async slow(milliseconds) {
    await new Promise((ready) => setTimeout(ready, milliseconds));
    return milliseconds;
  },
  // Keeps the only thread until the file is gone; says in another one that it has begun.
  async busy(file) {
    fs.writeFileSync(`${file}.begun`, '');
    const never = new Int32Array(new SharedArrayBuffer(4));
    while (fs.existsSync(file)) Atomics.wait(never, 0, 0, 5);
    return 'free';
  },
};

async function serve() {
  const ports = {};
  process.stderr.write = () => true; // it logs every error that a service throws
  for (const name of ['bolt', 'dubbo']) {
    const server = new RpcServer({ logger, port: 0, protocol: PROTOCOLS[name] });
    server.createContext = (req) => ({ req }); // what services have as `this`
    for (const version of ['1.0', '1.2.3']) {
      server.addService({ interfaceName: INTERFACE, version }, service);
    }
    await server.start();
    ports[name] = server.publishPort;
  }
  console.log(JSON.stringify(ports));
}

async function call(name, port) {
  const client = new RpcClient({ logger, protocol: PROTOCOLS[name] });
  const consumer = client.createConsumer({
    interfaceName: INTERFACE,
    serverHost: `127.0.0.1:${port}`,
    responseTimeout: 60000,
  });
  await consumer.ready();
  const said = [];
  const note = async (what, method, ...args) => {
    try {
      said.push(`${what}: ${shown(await consumer.invoke(method, args))}`);
    } catch (error) {
      said.push(`${what}: ${error.name} ${error.message.split('\n')[0]}`);
    }
  };
  if (process.argv[2] === 'busy') {
    await note('busy', 'busy', process.argv[3]);
    await note('add', 'add', 1, 2);
    await client.close();
    return said;
  }
  await note('add', 'add', 1, 2);
  await note('hello', 'hello', 'grüße 𝄞');
  await note('large', 'hello', 'x'.repeat(200000));
  await note('user', 'user', { name: 'a', tags: ['b'], big: '9007199254740993' });
  await note('boom', 'boom', 'because');
  await note('unknown', 'gone');
  // Together, and answered in another order than asked.
  const burst = [30, 5, 20, 1].map((n) => consumer.invoke('slow', [n]));
  said.push(`burst: ${JSON.stringify(await Promise.all(burst))}`);
  await note('add', 'add', -5, 3);
  await client.close();
  return said;
}

async function main() {
  if (process.argv[2] === 'serve') return serve();
  const told = {};
  for (const argument of process.argv.slice(process.argv[2] === 'busy' ? 4 : 3)) {
    const [name, port] = argument.split(':');
    told[name] = await call(name, port);
  }
  console.log(JSON.stringify(told));
  process.exit(0);
}

main();
