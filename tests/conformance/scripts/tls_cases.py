"""What callers of a sidecar's inbound port get that show one certificate or another.

usage: tls_cases.py TARGET DIR

DIR holds NAME.pem and NAME.key for each caller, and root.pem.
"""

import socket
import ssl
import sys
import warnings

TARGET, DIR = sys.argv[1:3]
HOST, PORT = TARGET.rsplit(":", 1)
REQUEST = b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
V1_1, V1_2, V1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def ask(name, version=V1_3, alpn=("http/1.1",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The one name of the other end is a URI, which is no host.
    context.check_hostname = False
    context.load_verify_locations(f"{DIR}/root.pem")
    if version != V1_3:
        context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    if name:
        context.load_cert_chain(f"{DIR}/{name}.pem", f"{DIR}/{name}.key")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    with socket.create_connection((HOST, int(PORT)), timeout=10) as raw:
        with context.wrap_socket(raw, server_hostname="app.default") as tls:
            tls.sendall(REQUEST)
            answer = b""
            while piece := tls.recv(65536):
                answer += piece
            names = dict(tls.getpeercert()).get("subjectAltName")
            return tls.version(), tls.selected_alpn_protocol(), names, answer


def served(name, **how):
    version, alpn, names, answer = ask(name, **how)
    assert version == "TLSv1.3", version
    assert alpn in ("http/1.1", None), alpn
    assert names == (("URI", "spiffe://mesh.local/ns/default/sa/app"),), names
    assert answer.startswith(b"HTTP/1.1 200 "), answer


def refused(name, **how):
    try:
        _, _, _, answer = ask(name, **how)
    except (ssl.SSLError, ConnectionError):
        return
    # TLS 1.3 lets the caller finish first: then it reads why, or nothing.
    assert answer == b"", answer


def plain_text():
    with socket.create_connection((HOST, int(PORT)), timeout=10) as raw:
        raw.sendall(REQUEST)
        try:
            assert raw.recv(100) == b""
        except ConnectionError:
            pass


def rubbish():
    with socket.create_connection((HOST, int(PORT)), timeout=10) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00" + b"\xff" * 512)
        try:
            answer = raw.recv(100)
        except ConnectionError:
            return
        # At most an alert.
        assert not answer or answer[0] == 21, answer


CASES = [
    ("good", lambda: served("caller")),
    ("good without saying what it speaks", lambda: served("caller", alpn=())),
    ("good again", lambda: served("caller")),
    ("no certificate", lambda: refused(None)),
    ("TLS 1.2", lambda: refused("caller", version=V1_2)),
    ("TLS 1.1", lambda: refused("caller", version=V1_1)),
    ("another protocol", lambda: refused("caller", alpn=("spdy/3",))),
    ("plain text", plain_text),
    ("rubbish", rubbish),
]
CASES += [(name, lambda name=name: refused(name)) for name in sys.argv[3:]]

for what, case in CASES:
    try:
        case()
    except Exception as error:  # noqa: BLE001
        print(f"failed {what}: {type(error).__name__}: {error}")
    else:
        print(f"ok {what}")
print(f"cases {len(CASES)}")
