"""gRPC's interoperability cases, by the names of its list, with grpcio as the client.

usage: grpc_cases.py TARGET AUTHORITY
"""

import queue
import sys
import threading
import time

import grpc

SERVICE = "/grpc.testing.TestService/"
SIZES = [31415, 9, 2653, 58979]


class Cases:
    def __init__(self, target, authority):
        options = [("grpc.default_authority", authority), ("grpc.max_receive_message_length", 64 << 20)]
        channel = grpc.insecure_channel(target, options=options)
        self.unary = channel.unary_unary(SERVICE + "UnaryCall")
        self.empty = channel.unary_unary(SERVICE + "EmptyCall")
        self.out = channel.unary_stream(SERVICE + "StreamingOutputCall")
        self.into = channel.stream_unary(SERVICE + "StreamingInputCall")
        self.both = channel.stream_stream(SERVICE + "FullDuplexCall")
        self.nothing = channel.unary_unary(SERVICE + "UnimplementedCall")
        self.nobody = channel.unary_unary("/grpc.testing.UnimplementedService/UnimplementedCall")

    def empty_unary(self):
        assert self.empty(b"", timeout=10) == b""

    def large_unary(self):
        assert len(self.unary(b"size=314159;" + b"\0" * 271828, timeout=10)) == 314159

    def very_large_unary(self):
        assert len(self.unary(b"size=8388608;" + b"\0" * (3 << 20), timeout=20)) == 8 << 20

    def client_streaming(self):
        sizes = [27182, 8, 1828, 45904]
        assert self.into((b"\0" * size for size in sizes), timeout=10) == b"74922"

    def server_streaming(self):
        ask = b",".join(b"size=%d" % size for size in SIZES)
        assert [len(it) for it in self.out(ask, timeout=10)] == SIZES

    def ping_pong(self):
        asks, heard = queue.Queue(), []
        answers = self.both(iter(asks.get, None), timeout=10)
        for size in SIZES:
            # Only when the answer before is here.
            asks.put(b"size=%d;" % size + b"\0" * 1000)
            heard.append(len(next(answers)))
        asks.put(None)
        assert heard == SIZES and next(answers, None) is None

    def empty_stream(self):
        assert list(self.both(iter(()), timeout=10)) == []

    def cancel_after_begin(self):
        asks = queue.Queue()
        call = self.into.future(iter(asks.get, None), timeout=10)
        call.cancel()
        assert call.cancelled() and call.code() == grpc.StatusCode.CANCELLED
        asks.put(None)

    def cancel_after_first_response(self):
        asks = queue.Queue()
        call = self.both(iter(asks.get, None), timeout=10)
        asks.put(b"size=31415;" + b"\0" * 27182)
        assert len(next(call)) == 31415
        call.cancel()
        self.fails(lambda: next(call), grpc.StatusCode.CANCELLED)
        asks.put(None)

    def timeout_on_sleeping_server(self):
        begun = time.monotonic()
        call = self.both(iter([b"sleep=5,size=1;" + b"\0" * 27182]), timeout=0.3)
        self.fails(lambda: list(call), grpc.StatusCode.DEADLINE_EXCEEDED)
        assert time.monotonic() - begun < 3

    def status_code_and_message(self):
        for call in (lambda: self.unary(b"status=2:test status message", timeout=10),
                     lambda: list(self.both(iter([b"status=2:test status message"]), timeout=10))):
            error = self.fails(call, grpc.StatusCode.UNKNOWN)
            assert error.details() == "test status message", error.details()

    def every_status_code(self):
        for code in grpc.StatusCode:
            if code is not grpc.StatusCode.OK:
                self.fails(lambda: self.unary(b"status=%d:no" % code.value[0], timeout=10), code)

    def special_status_message(self):
        message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
        ask = b"status=2:" + message.encode()
        error = self.fails(lambda: self.unary(ask, timeout=10), grpc.StatusCode.UNKNOWN)
        assert error.details() == message, error.details()

    def custom_metadata(self):
        metadata = [("x-grpc-test-echo-initial", "test_initial_metadata_value"),
                    ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab\x00\xff")]
        _, one = self.unary.with_call(b"size=1", metadata=metadata, timeout=10)
        many = self.both(iter([b"size=1"]), metadata=metadata, timeout=10)
        assert len(list(many)) == 1
        for call in (one, many):
            initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
            assert initial["x-grpc-test-echo-initial"] == metadata[0][1], initial
            assert trailing["x-grpc-test-echo-trailing-bin"] == metadata[1][1], trailing

    def unimplemented_method(self):
        self.fails(lambda: self.nothing(b"", timeout=10), grpc.StatusCode.UNIMPLEMENTED)

    def unimplemented_service(self):
        self.fails(lambda: self.nobody(b"", timeout=10), grpc.StatusCode.UNIMPLEMENTED)

    def many_at_once(self):
        failed = []

        def some():
            try:
                for _ in range(50):
                    assert len(self.unary(b"size=1000;", timeout=10)) == 1000
            except Exception as error:  # noqa: BLE001
                failed.append(error)

        threads = [threading.Thread(target=some) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed[0]

    @staticmethod
    def fails(call, code):
        try:
            answer = call()
        except grpc.RpcError as error:
            assert error.code() == code, f"{error.code()} instead of {code}: {error.details()}"
            return error
        raise AssertionError(f"{answer!r} instead of {code}")


def main():
    cases = Cases(*sys.argv[1:3])
    names = [name for name in vars(Cases) if name not in ("fails", "__init__") and not name.startswith("__")]
    for name in names:
        try:
            getattr(cases, name)()
            print("ok", name, flush=True)
        except Exception as error:  # noqa: BLE001
            print("FAILED", name, f"{type(error).__name__}: {error}", flush=True)
    print(f"cases {len(names)}", flush=True)


main()
