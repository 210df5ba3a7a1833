"""A server of gRPC that asks for certificates, with its own from files; it answers who called.

usage: grpc_mtls_server.py DIR NAME
"""

import sys
from concurrent import futures
from pathlib import Path

import grpc

DIR, NAME = Path(sys.argv[1]), sys.argv[2]


def who(_request, context):
    names = context.auth_context().get("x509_subject_alternative_name", [])
    return b",".join(names)


def main():
    credentials = grpc.ssl_server_credentials(
        [((DIR / f"{NAME}.key").read_bytes(), (DIR / f"{NAME}.pem").read_bytes())],
        root_certificates=(DIR / "root.pem").read_bytes(),
        require_client_auth=True,
    )
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    handler = grpc.unary_unary_rpc_method_handler(who)
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("who.Who", {"Who": handler}),
    ))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    print(f"listening name=grpc address=127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


main()
