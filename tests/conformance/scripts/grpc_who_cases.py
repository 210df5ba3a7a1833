"""A caller of gRPC through its sidecar, whom the server on the other side knows by its certificate.

usage: grpc_who_cases.py TARGET AUTHORITY EXPECTED

EXPECTED is the identity that the server has seen, or nothing where the call must not be made.
"""

import sys

import grpc

TARGET, AUTHORITY, EXPECTED = sys.argv[1:4]
options = [("grpc.default_authority", AUTHORITY)]
with grpc.insecure_channel(TARGET, options=options) as channel:
    try:
        told = channel.unary_unary("/who.Who/Who")(b"", timeout=10).decode()
    except grpc.RpcError as error:
        told = "" if error.code() == grpc.StatusCode.UNAVAILABLE else f"{error.code()}: {error.details()}"
print("ok who called" if told == EXPECTED else f"failed who called: {told!r}")
print("cases 1")
