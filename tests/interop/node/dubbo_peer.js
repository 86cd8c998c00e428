// npm's Dubbo clients, apache-dubbo-js and dubbo2.js: `node dubbo_peer.js call PACKAGE:PORT …`, or `… attachments …` to
// hear what the server was given beside the arguments, or `… busy FILE PACKAGE:PORT` to keep it busy until the file is gone.
'use strict';
const java = require('js-to-java');

const INTERFACE = 'demo.Greeter';
const METHODS = {
  add: (a, b) => [java.int(a), java.int(b)],
  hello: (name) => [java.String(name)],
  user: (user) => [java.combine('demo.UserRequest', user), java.long(5), java.boolean(true)],
  boom: (why) => [java.String(why)],
  slow: (milliseconds) => [java.int(milliseconds)],
  attachments: (names) => [java.List(names)],
  busy: (file) => [java.String(file)],
  gone: () => [],
};

async function call(name, port) {
  const { DirectlyDubbo } = require(name);
  const dubbo = DirectlyDubbo.from({
    dubboAddress: `127.0.0.1:${port}`,
    dubboVersion: '2.0.2',
    dubboInvokeTimeout: 60,
  });
  const service = dubbo.proxyService({
    dubboInterface: INTERFACE,
    version: '1.2.3',
    group: 'blue',
    timeout: process.argv[2] === 'busy' ? 60000 : 9000,
    methods: METHODS,
  });
  const said = [];
  const shown = ({ res, err }) => {
    const text = err ? err.message.split('\n')[0] : JSON.stringify(res);
    return text && text.length > 1000 ? `${text.length} characters` : text;
  };
  const note = async (what, method, ...args) => {
    said.push(`${what}: ${shown(await service[method](...args))}`);
  };
  if (process.argv[2] === 'attachments') {
    await note('attachments', 'attachments', ['tenant', 'group', 'version', 'timeout', 'path']);
    return said;
  }
  if (process.argv[2] === 'busy') {
    await note('busy', 'busy', process.argv[3]);
    await note('add', 'add', 1, 2);
    return said;
  }
  await note('add', 'add', 1, 2);
  await note('hello', 'hello', 'grüße');
  await note('large', 'hello', 'x'.repeat(200000));
  await note('user', 'user', { name: 'a', tags: ['b'], big: '9007199254740993' });
  await note('boom', 'boom', 'because');
  await note('unknown', 'gone');
  const burst = await Promise.all([30, 5, 20, 1].map((n) => service.slow(n)));
  said.push(`burst: ${burst.map(shown).join(' ')}`);
  await note('add', 'add', -5, 3);
  return said;
}

async function main() {
  const told = {};
  for (const argument of process.argv.slice(process.argv[2] === 'busy' ? 4 : 3)) {
    const [name, port] = argument.split(':');
    told[name] = await call(name, port);
  }
  console.log(JSON.stringify(told));
  process.exit(0);
}

main();
