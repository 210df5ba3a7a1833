"""Calls a service over xds:/// without a pause and tells once every 100 ms how it went.

Each line of the output is a JSON object with totals: calls by the version that answered, failures,
and the last failure's text.
"""

import json
import sys
import threading
import time

import grpc

TARGET, CALLERS = sys.argv[1], 4
totals = {"versions": {}, "failed": 0, "error": ""}
lock = threading.Lock()


def call_without_end(channel):
    say = channel.unary_unary("/echo.Echo/Say", request_serializer=None, response_deserializer=None)
    first = True
    while True:
        try:
            # Only the first call waits for the configuration.
            version = say(b"", timeout=10, wait_for_ready=first).decode()
            first = False
            with lock:
                totals["versions"][version] = totals["versions"].get(version, 0) + 1
        except grpc.RpcError as error:
            with lock:
                totals["failed"] += 1
                totals["error"] = f"{error.code()}: {error.details()}"
        time.sleep(0.005)


channel = grpc.insecure_channel(TARGET)
for _ in range(CALLERS):
    threading.Thread(target=call_without_end, args=(channel,), daemon=True).start()
while True:
    time.sleep(0.1)
    with lock:
        print(json.dumps(totals), flush=True)
