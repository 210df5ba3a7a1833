"""An HTTP/1.1 server that does what the cases ask for: echoes, events one by one, and trailers."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Events that were heard, by stream.
HEARD = {}
CHANGED = threading.Condition()


class Server(ThreadingHTTPServer):
    request_queue_size = 256


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path.startswith("/events/"):
            return self.events(self.path.rsplit("/", 1)[1])
        if self.path == "/gzip":
            return self.answer(b"\x1f\x8b not really", [("Content-Encoding", "gzip")])
        if self.path == "/redirect":
            return self.answer(b"", [("Location", "/there")], 302)
        if self.path == "/cookies":
            return self.answer(b"", [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/")])
        if self.path.startswith("/bytes/"):
            return self.answer(b"x" * int(self.path.rsplit("/", 1)[1]))
        if self.path == "/chunks":
            return self.chunks()
        lines = f"{self.command} {self.path}\n" + "".join(f"{k.lower()}: {v}\n" for k, v in self.headers.items())
        self.answer(lines.encode())

    do_HEAD = do_OPTIONS = do_DELETE = do_GET

    def do_POST(self):
        body = self.body()
        if self.path.startswith("/heard/"):
            with CHANGED:
                HEARD[self.path.rsplit("/", 1)[1]] = int(body)
                CHANGED.notify_all()
            return self.answer(b"")
        self.answer(body, [("X-Method", self.command)])

    do_PUT = do_PATCH = do_POST

    def body(self):
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def answer(self, body, headers=(), status=200):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin_chunks(self, headers):
        self.send_response(200)
        for name, value in [*headers, ("Transfer-Encoding", "chunked")]:
            self.send_header(name, value)
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def chunks(self):
        self.begin_chunks([("Trailer", "x-sum")])
        for i in range(100):
            self.chunk(b"%d," % i)
        self.wfile.write(b"0\r\nx-sum: 4950\r\n\r\n")

    def events(self, stream):
        """The next event goes when the one before was heard: one that waits in a buffer on the way
        is waited for in vain."""
        HEARD[stream] = 0
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begin_chunks([("Content-Type", "text/event-stream")])
        for event in range(1, 31):
            self.chunk(b"id: %d\ndata: %s\n\n" % (event, b"e" * (event * 7 % 50)))
            with CHANGED:
                if not CHANGED.wait_for(lambda: HEARD[stream] >= event, timeout=5):
                    self.close_connection = True
                    return
        self.wfile.write(b"0\r\n\r\n")


server = Server(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print("listening name=http address=127.0.0.1:%d" % server.server_address[1], flush=True)
server.serve_forever()
