"""What users of httpx and http.client do every day, over HTTP/1.1 and HTTP/2.

usage: http_cases.py TARGET HOST
"""

import asyncio
import http.client
import os
import socket
import sys

import httpx

TARGET, HOST = sys.argv[1:3]
BASE = f"http://{TARGET}"
HEADERS = {"host": HOST}


class Cases:
    def __init__(self, client, http2):
        self.client = client
        self.http2 = http2

    def get(self):
        answer = self.client.get("/a?b=c", headers={"x-one": "1", "accept": "text/plain"})
        assert answer.status_code == 200 and answer.text.startswith("GET /a?b=c\n"), answer.text
        assert f"host: {HOST}\n" in answer.text and "x-one: 1\n" in answer.text, answer.text

    def head(self):
        answer = self.client.head("/bytes/1000")
        assert answer.headers["content-length"] == "1000" and not answer.content

    def options_and_delete(self):
        for method in ("OPTIONS", "DELETE"):
            assert self.client.request(method, "/a").text.startswith(f"{method} /a\n")

    def post_and_put(self):
        for method in ("POST", "PUT", "PATCH"):
            answer = self.client.request(method, "/a", content=b"hello")
            assert answer.content == b"hello" and answer.headers["x-method"] == method

    def form_json_and_file(self):
        assert self.client.post("/a", data={"a": "1 2"}).content == b"a=1+2"
        assert self.client.post("/a", json={"a": 1}).json() == {"a": 1}
        assert b"filename" in self.client.post("/a", files={"f": b"x" * 100_000}).content

    def large_bodies(self):
        body = os.urandom(5 << 20)
        assert self.client.post("/a", content=body).content == body

    def body_of_unknown_length(self):
        pieces = [os.urandom(10_000) for _ in range(50)]
        assert self.client.post("/a", content=iter(pieces)).content == b"".join(pieces)

    def stream_of_chunks(self):
        with self.client.stream("GET", "/chunks") as answer:
            text = "".join(answer.iter_text())
        assert text == "".join(f"{i}," for i in range(100)), text

    def redirect_and_cookies(self):
        assert self.client.get("/redirect").headers["location"] == "/there"
        answer = self.client.get("/cookies")
        assert answer.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2; Path=/"]
        assert "cookie: a=1; b=2\n" in self.client.get("/a").text
        self.client.cookies.clear()

    def compressed_bodies_are_left_alone(self):
        with self.client.stream("GET", "/gzip") as answer:
            assert answer.headers["content-encoding"] == "gzip"
            assert b"".join(answer.iter_raw()) == b"\x1f\x8b not really"

    def many_at_once(self):
        sizes = [i * 97 % 5000 for i in range(400)]

        async def ask():
            # Threads that share one client of HTTP/2 may open their streams out of order.
            transport = httpx.AsyncHTTPTransport(http1=not self.http2, http2=self.http2)
            async with httpx.AsyncClient(base_url=BASE, headers=HEADERS, transport=transport, timeout=15) as client:
                answers = await asyncio.gather(*(client.get(f"/bytes/{size}") for size in sizes))
                return [len(answer.content) for answer in answers]

        assert asyncio.run(ask()) == sizes

    def events_one_by_one(self):
        stream = f"{os.getpid()}{id(self)}"
        heard = []
        with self.client.stream("GET", f"/events/{stream}") as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    event = int(line[4:])
                elif line.startswith("data: "):
                    heard.append(len(line) - 6)
                    self.client.post(f"/heard/{stream}", content=str(event).encode())
        assert heard == [event * 7 % 50 for event in range(1, 31)], heard


def keep_alive():
    connection = http.client.HTTPConnection(TARGET)
    for i in range(100):
        connection.request("POST" if i % 3 else "GET", f"/{i}", b"x" * i if i % 3 else None, HEADERS)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200 and (not i % 3 or len(body) == i)
    assert connection.sock is not None


def pipelined():
    host, port = TARGET.rsplit(":", 1)
    stream = socket.create_connection((host, int(port)), timeout=10)
    asks = "".join(f"GET /bytes/{i} HTTP/1.1\r\nHost: {HOST}\r\n\r\n" for i in range(1, 20))
    stream.sendall(asks.encode() + f"GET /bytes/20 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    came = b""
    while octets := stream.recv(65536):
        came += octets
    lengths = [int(it.split(b"\r\n")[0]) for it in came.lower().split(b"content-length: ")[1:]]
    assert lengths == list(range(1, 21)), lengths


def main():
    results = []
    for version in (1, 2):
        transport = httpx.HTTPTransport(http1=version == 1, http2=version == 2)
        with httpx.Client(base_url=BASE, headers=HEADERS, transport=transport, timeout=15) as client:
            cases = Cases(client, version == 2)
            for name in vars(Cases):
                if not name.startswith("__"):
                    results.append((f"http{version} {name}", getattr(cases, name)))
            run(results)
    run(results := [("keep_alive", keep_alive), ("pipelined", pipelined)])


COUNT = 0


def run(results):
    global COUNT
    for name, case in results:
        try:
            case()
            print("ok", name, flush=True)
        except Exception as error:  # noqa: BLE001
            print("FAILED", name, f"{type(error).__name__}: {error}"[:500], flush=True)
        COUNT += 1
    results.clear()


main()
print(f"cases {COUNT}", flush=True)
