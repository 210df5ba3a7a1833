//! OpenSSL, by its own program and by Python, at the inbound port of a sidecar that asks for mTLS.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa, SanType, date_time_ymd};
use segue_tests::authority::{Authority, uri};
use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::peers;
use segue_tests::written::service;

use crate::alone;
use crate::script::pass;

/// A sidecar of service `app` that shows its identity and asks for one.
fn strict(mesh: &Mesh, authority: &Authority) -> (Sidecar, segue_tests::mesh::Application) {
    let app = mesh.echo("v1").unwrap();
    let address = app.address.to_string();
    let identity = authority.of_service("app").unwrap().flags();
    let mut flags: Vec<(&str, &str)> =
        identity.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
    flags.extend([("--service", "app"), ("--app-address", &address)]);
    let sidecar = mesh.sidecar_with("app-1", &flags).unwrap();
    mesh.apply(&service("app", &[("v1", vec![app.address])])).unwrap();
    sidecar.wait_ready().unwrap();
    (sidecar, app)
}

/// Certificates that nobody is let in with, and the reasons.
fn write_wrong_ones(authority: &Authority, dir: &Path) -> Vec<(&'static str, &'static str)> {
    let wrong = |name: &'static str, change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let change = |params: &mut rcgen::CertificateParams| {
            change(params);
            Ok(())
        };
        authority.of_service_but(name, "caller", change).unwrap();
    };
    wrong("expired", &|it| it.not_after = date_time_ymd(2021, 1, 1));
    wrong("early", &|it| it.not_before = date_time_ymd(2080, 1, 1));
    wrong("nameless", &|it| it.subject_alt_names.clear());
    wrong("common-name", &|it| {
        it.subject_alt_names.clear();
        it.distinguished_name.push(DnType::CommonName, "spiffe://mesh.local/ns/default/sa/caller");
    });
    wrong("wildcard", &|it| it.subject_alt_names = vec![uri("spiffe://mesh.local/*").unwrap()]);
    wrong("two-names", &|it| {
        it.subject_alt_names.push(uri("spiffe://mesh.local/ns/default/sa/admin").unwrap());
    });
    wrong("host", &|it| {
        it.subject_alt_names = vec![SanType::DnsName("caller.default".try_into().unwrap())];
    });
    wrong("other-domain", &|it| {
        it.subject_alt_names = vec![uri("spiffe://mesh.evil/ns/default/sa/caller").unwrap()];
    });
    wrong("authority", &|it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    wrong("server-only", &|it| {
        it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let stranger = Authority::new(&dir.join("elsewhere")).unwrap();
    let theirs = stranger.of_service("caller").unwrap();
    std::fs::copy(theirs.certificate, dir.join("stranger.pem")).unwrap();
    std::fs::copy(theirs.key, dir.join("stranger.key")).unwrap();
    vec![
        ("expired", "expired"),
        ("early", "not_yet_valid"),
        ("nameless", "san"),
        ("common-name", "san"),
        ("wildcard", "san"),
        ("two-names", "san"),
        ("host", "san"),
        ("other-domain", "trust_domain"),
        ("authority", "usage"),
        ("server-only", "usage"),
        ("stranger", "unknown_authority"),
    ]
}

#[test]
fn python_is_let_in_with_a_good_certificate_only() {
    let Some(python) = peers::or_skip(peers::python_with("httpx")) else { return };
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let dir = mesh.dir().join("certificates");
    let authority = Authority::new(&dir).unwrap();
    let (sidecar, _app) = strict(&mesh, &authority);
    authority.of_service("caller").unwrap();
    let wrong = write_wrong_ones(&authority, &dir);
    let mut arguments = vec![sidecar.inbound.to_string(), dir.to_string_lossy().into_owned()];
    arguments.extend(wrong.iter().map(|(name, _)| (*name).to_owned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(pass(&python, "tls_cases.py", &arguments), 9 + wrong.len());
    let mut reasons: Vec<&str> = wrong.iter().map(|(_, reason)| *reason).collect();
    // Two old versions of TLS were tried.
    reasons.extend(["no_certificate", "incompatible", "incompatible"]);
    // What only begins like TLS is none.
    reasons.extend(["application_protocol", "plain_text", "plain_text"]);
    let log = std::fs::read_to_string(sidecar.log()).unwrap();
    for reason in &reasons {
        let times = reasons.iter().filter(|it| *it == reason).count();
        let series = format!("segue_tls_refusals_total{{end=\"server\",reason=\"{reason}\"}}");
        assert_eq!(sidecar.counted(&series).unwrap(), times as u64, "{reason}");
        assert!(log.contains(&format!("reason=\"{reason}\"")), "{reason}: {log}");
    }
    let metrics = sidecar.metrics().unwrap();
    for secret in ["PRIVATE KEY", "BEGIN CERTIFICATE"] {
        assert!(!log.contains(secret) && !metrics.contains(secret), "{secret}");
    }
}

#[test]
fn sslyze_finds_nothing() {
    let Some(python) = peers::or_skip(peers::python_with("sslyze")) else { return };
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let dir = mesh.dir().join("certificates");
    let authority = Authority::new(&dir).unwrap();
    let (sidecar, _app) = strict(&mesh, &authority);
    authority.of_service("caller").unwrap();
    let arguments = [sidecar.inbound.to_string(), dir.to_string_lossy().into_owned()];
    let arguments = arguments.each_ref().map(String::as_str);
    assert_eq!(pass(&python, "tls_scan.py", &arguments), 14);
}

/// What `openssl s_client` says that sends a request.
fn s_client(target: SocketAddr, dir: &Path, flags: &[&str]) -> (bool, String) {
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &target.to_string(), "-ign_eof"])
        .args(["-CAfile", &file("root.pem"), "-alpn", "http/1.1"])
        .args(["-cert", &file("caller.pem"), "-key", &file("caller.key")])
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n";
    // One that was refused reads no more.
    let _ = client.stdin.take().unwrap().write_all(request);
    let output = client.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn openssls_own_client_gets_tls_13_and_resumes() {
    let openssl = peers::on_path("openssl").ok_or_else(|| "openssl not found".to_owned());
    let Some(_openssl) = peers::or_skip(openssl) else { return };
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let dir = mesh.dir().join("certificates");
    let authority = Authority::new(&dir).unwrap();
    let (sidecar, _app) = strict(&mesh, &authority);
    authority.of_service("caller").unwrap();
    let session = dir.join("session");
    let session = session.to_string_lossy();
    let (good, told) = s_client(sidecar.inbound, &dir, &["-sess_out", &session]);
    assert!(good && told.contains("HTTP/1.1 200"), "{told}");
    assert!(told.contains("Verification: OK") && told.contains("TLSv1.3"), "{told}");
    assert!(told.contains("ALPN protocol: http/1.1"), "{told}");
    let (good, told) = s_client(sidecar.inbound, &dir, &["-sess_in", &session]);
    assert!(good && told.contains("Reused, TLSv1.3"), "{told}");
    assert!(told.contains("HTTP/1.1 200"), "{told}");
    for old in ["-tls1_2", "-tls1_1"] {
        let (good, told) = s_client(sidecar.inbound, &dir, &[old]);
        assert!(!good && !told.contains("HTTP/1.1 200"), "{old}: {told}");
    }
    // Nothing is taken before the handshake is over.
    assert!(told.contains("Max Early Data: 0") || told.contains("Early data was not sent"));
    let metrics = sidecar.metrics().unwrap();
    let line = "segue_tls_handshakes_total{end=\"server\",kind=\"resumed\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}
