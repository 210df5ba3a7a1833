"""What sslyze finds at a sidecar's inbound port.

usage: tls_scan.py TARGET DIR

DIR holds caller.pem and caller.key, of one who is let in.
"""

import sys
from pathlib import Path

from sslyze import (
    ClientAuthenticationCredentials,
    ScanCommand,
    ScanCommandAttemptStatusEnum,
    Scanner,
    ServerNetworkConfiguration,
    ServerNetworkLocation,
    ServerScanRequest,
    ServerScanStatusEnum,
)

TARGET, DIR = sys.argv[1], Path(sys.argv[2])
HOST, PORT = TARGET.rsplit(":", 1)
OLD = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2")
SUITES = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
ASKED = [
    *(getattr(ScanCommand, f"{version.upper()}_CIPHER_SUITES") for version in OLD),
    ScanCommand.TLS_1_3_CIPHER_SUITES,
    ScanCommand.ELLIPTIC_CURVES,
    ScanCommand.HEARTBLEED,
    ScanCommand.OPENSSL_CCS_INJECTION,
    ScanCommand.ROBOT,
    ScanCommand.SESSION_RENEGOTIATION,
    ScanCommand.TLS_COMPRESSION,
    ScanCommand.TLS_1_3_EARLY_DATA,
    ScanCommand.TLS_FALLBACK_SCSV,
]


def scan():
    credentials = ClientAuthenticationCredentials(
        certificate_chain_path=DIR / "caller.pem", key_path=DIR / "caller.key"
    )
    scanner = Scanner(per_server_concurrent_connections_limit=2)
    scanner.queue_scans([
        ServerScanRequest(
            server_location=ServerNetworkLocation("app.default", int(PORT), ip_address=HOST),
            network_configuration=ServerNetworkConfiguration(
                tls_server_name_indication="app.default",
                tls_client_auth_credentials=credentials,
            ),
            scan_commands=set(ASKED),
        )
    ])
    result = next(iter(scanner.get_results()))
    assert result.scan_status == ServerScanStatusEnum.COMPLETED, result.connectivity_error_trace
    return result


SCAN = scan()


def found(command):
    attempt = getattr(SCAN.scan_result, command.value)
    completed = ScanCommandAttemptStatusEnum.COMPLETED
    assert attempt.status == completed, (attempt.error_reason, attempt.error_trace)
    return attempt.result


def connected():
    told = SCAN.connectivity_result
    assert told.highest_tls_version_supported.name == "TLS_1_3", told


def refused(version):
    accepted = found(getattr(ScanCommand, f"{version.upper()}_CIPHER_SUITES")).accepted_cipher_suites
    assert not accepted, [suite.cipher_suite.name for suite in accepted]


def suites():
    accepted = found(ScanCommand.TLS_1_3_CIPHER_SUITES).accepted_cipher_suites
    assert {suite.cipher_suite.name for suite in accepted} == SUITES, accepted


def curves():
    # The hybrid of X25519 and ML-KEM is not among those that sslyze knows.
    names = {curve.name for curve in found(ScanCommand.ELLIPTIC_CURVES).supported_curves}
    assert names == {"X25519", "secp256r1", "secp384r1"}, names


def no(command, field):
    def case():
        result = found(command)
        assert getattr(result, field) is False, result

    return case


def robot():
    told = found(ScanCommand.ROBOT).robot_result.name
    assert told.startswith("NOT_VULNERABLE"), told


CASES = [
    ("TLS 1.3 is spoken", connected),
    *((f"{version} is not spoken", lambda version=version: refused(version)) for version in OLD),
    ("the suites of TLS 1.3", suites),
    ("the curves", curves),
    ("no Heartbleed", no(ScanCommand.HEARTBLEED, "is_vulnerable_to_heartbleed")),
    ("no CCS injection", no(ScanCommand.OPENSSL_CCS_INJECTION, "is_vulnerable_to_ccs_injection")),
    ("no ROBOT", robot),
    ("no renegotiation by clients", no(
        ScanCommand.SESSION_RENEGOTIATION, "is_vulnerable_to_client_renegotiation_dos")),
    ("no compression", no(ScanCommand.TLS_COMPRESSION, "supports_compression")),
    ("no early data", no(ScanCommand.TLS_1_3_EARLY_DATA, "supports_early_data")),
]

for what, case in CASES:
    try:
        case()
    except Exception as error:  # noqa: BLE001
        print(f"failed {what}: {type(error).__name__}: {error}")
    else:
        print(f"ok {what}")
print(f"cases {len(CASES)}")
