"""The server of a page that tests the way to it: ``python page.py`` prints its port.

``/`` is the page. Its script fetches ``/data/N`` many times at once, uploads to ``/echo``, talks over a WebSocket at
``/socket`` (which the proxy sends elsewhere), and writes what it saw into the page. The page counts as loaded only
then: it contains an image, ``/hold``, that is answered once the script has posted ``/done``.
"""

from __future__ import annotations

import http.server
import threading
from typing import Final

PAGE: Final = """<!doctype html>
<meta charset="utf-8"><title>under way</title><link rel="icon" href="data:,">
<style>
  body { font: 18px sans-serif; margin: 3em; color: #123 } h1 { color: #2563eb }
  td { padding: .2em 1.5em .2em 0 } .good::after { content: " \\2714"; color: green }
</style>
<h1>Through the proxy</h1>
<table id="seen"></table>
<img src="/hold" width="1" height="1">
<script>
const seen = {};
function note(name, value) {
  seen[name] = value;
  const row = document.getElementById("seen").insertRow();
  row.insertCell().textContent = name;
  const cell = row.insertCell();
  cell.textContent = String(value);
  cell.className = "good";
}
async function fetches() {
  const all = await Promise.all([...Array(40).keys()].map(async n => {
    const answer = await fetch(`/data/${n * 1000}`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return bytes.length === n * 1000 && bytes.every((byte, at) => byte === at % 256);
  }));
  note("fetches", all.filter(good => good).length);
  const sent = "\\u00e4\\u20ac\\u{1f600}".repeat(30000);
  const got = await (await fetch("/echo", {method: "POST", body: sent})).text();
  note("upload", got === sent);
}
function socket() {
  return new Promise((resolve, reject) => {
    const connection = new WebSocket(`wss://${location.host}/socket`);
    const large = new Uint8Array(200000).map((_, at) => at % 251);
    let texts = 0;
    connection.binaryType = "arraybuffer";
    connection.onopen = () => { for (let n = 0; n < 20; n++) connection.send(`text ${n}`); };
    connection.onmessage = event => {
      if (typeof event.data === "string") {
        if (event.data !== `text ${texts++}`) return reject(new Error(event.data));
        if (texts === 20) connection.send(large);
        return;
      }
      const bytes = new Uint8Array(event.data);
      note("texts", texts);
      note("binary", bytes.length === large.length && bytes.every((b, at) => b === large[at]));
      connection.close(4000, "enough");
    };
    connection.onclose = event => { note("close", event.code); resolve(); };
    connection.onerror = () => reject(new Error("the socket failed"));
  });
}
(async () => {
  try {
    await fetches();
    await socket();
    note("protocol", [...new Set(performance.getEntries()
      .map(entry => entry.nextHopProtocol).filter(name => name))].join(" "));
  } catch (error) { note("error", error); }
  document.title = "over";
  document.body.dataset.seen = JSON.stringify(seen);
  await fetch("/done", {method: "POST"});
})();
</script>
"""

done = threading.Event()


class Page(http.server.BaseHTTPRequestHandler):
    """See the module."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path == "/":
            done.clear()
            self._answer(PAGE.encode(), "text/html")
        elif self.path.startswith("/data/"):
            size = int(self.path.rpartition("/")[2])
            self._answer((bytes(range(256)) * (size // 256 + 1))[:size])
        else:
            done.wait(60)
            self._answer(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/done":
            done.set()
        self._answer(body)

    def _answer(self, body: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until killed."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
