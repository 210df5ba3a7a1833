"""A server of gRPC's interoperability cases (the streaming echo of grpc.testing.TestService), with
messages as plain bytes: the first octets say what to do, as `size=10,size=20;sleep=1`."""

import time
from concurrent import futures

import grpc


def wanted(request):
    """The answers that a request asks for."""
    for part in request.split(b";")[0].split(b","):
        key, _, value = part.partition(b"=")
        if key == b"size":
            yield b"\0" * int(value)
        elif key == b"sleep":
            time.sleep(float(value))


def check(request, context):
    if request.startswith(b"status="):
        code, _, message = request[7:].partition(b":")
        context.abort(next(it for it in grpc.StatusCode if it.value[0] == int(code)), message.decode())


def echo(context):
    """What `custom_metadata` sends comes back."""
    metadata = dict(context.invocation_metadata())
    if "x-grpc-test-echo-initial" in metadata:
        value = metadata["x-grpc-test-echo-initial"]
        context.send_initial_metadata([("x-grpc-test-echo-initial", value)])
    if "x-grpc-test-echo-trailing-bin" in metadata:
        value = metadata["x-grpc-test-echo-trailing-bin"]
        context.set_trailing_metadata([("x-grpc-test-echo-trailing-bin", value)])


def unary(request, context):
    echo(context)
    check(request, context)
    return next(wanted(request), b"")


def stream_out(request, context):
    echo(context)
    check(request, context)
    yield from wanted(request)


def stream_in(requests, context):
    return str(sum(len(it) for it in requests)).encode()


def both(requests, context):
    echo(context)
    for request in requests:
        check(request, context)
        yield from wanted(request)


def main():
    handlers = {
        "UnaryCall": grpc.unary_unary_rpc_method_handler(unary),
        "EmptyCall": grpc.unary_unary_rpc_method_handler(lambda request, context: b""),
        "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(stream_out),
        "StreamingInputCall": grpc.stream_unary_rpc_method_handler(stream_in),
        "FullDuplexCall": grpc.stream_stream_rpc_method_handler(both),
    }
    server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", 64 << 20)])
    service = grpc.method_handlers_generic_handler("grpc.testing.TestService", handlers)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening name=grpc address=127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


main()
