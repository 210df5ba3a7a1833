"""gRPC's own xDS client with certificates from files: whom it calls, and who it is to be served.

usage: grpc_mtls_cases.py XDS DIR GOOD WRONG

XDS is the control plane's address; GOOD.pem and WRONG.pem in DIR are a caller who is let in and one
who is not. One process knows one bootstrap, so that each case has one of its own.
"""

import json
import os
import subprocess
import sys

XDS, DIR, GOOD, WRONG = sys.argv[1:5]


def call():
    # It reads its bootstrap when it is loaded.
    import grpc
    from grpc import experimental

    credentials = grpc.xds_channel_credentials(experimental.insecure_channel_credentials())
    with grpc.secure_channel("xds:///app", credentials) as channel:
        say = channel.unary_unary("/echo.Echo/Say")
        for _ in range(20):
            assert say(b"", timeout=5, wait_for_ready=True).decode() == "v1"


def bootstrap(name):
    files = {
        "certificate_file": f"{DIR}/{name}.pem",
        "private_key_file": f"{DIR}/{name}.key",
        "ca_certificate_file": f"{DIR}/root.pem",
    }
    return json.dumps({
        "xds_servers": [{
            "server_uri": XDS,
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": files}},
        "node": {"id": f"grpc-{name}", "cluster": "caller"},
    })


def called_as(name):
    environment = {**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap(name)}
    return subprocess.run(
        [sys.executable, __file__, XDS, DIR, GOOD, WRONG, "call"],
        env=environment, capture_output=True, text=True, timeout=60,
    )


def served():
    told = called_as(GOOD)
    assert told.returncode == 0, told.stderr


def refused():
    told = called_as(WRONG)
    assert told.returncode != 0 and ("UNAVAILABLE" in told.stderr or "DEADLINE" in told.stderr), told.stderr


if sys.argv[5:] == ["call"]:
    call()
    sys.exit()

CASES = [("a workload of the mesh", served), ("a stranger", refused)]
for what, case in CASES:
    try:
        case()
    except Exception as error:  # noqa: BLE001
        print(f"failed {what}: {type(error).__name__}: {error}")
    else:
        print(f"ok {what}")
print(f"cases {len(CASES)}")
