//! An application that knows nothing of its sidecar: its connections are captured on their way, in
//! network namespaces that the test makes.

use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use segue_tests::binaries::Binaries;
use segue_tests::process::{Process, Program};
use segue_tests::{peers, wait};

use crate::alone;

/// The sidecar's user; the application is root here.
const SIDECAR_UID: &str = "54321";
const NEAR: &str = "10.77.0.1";
const FAR: &str = "10.77.0.2";
const LIMIT: Duration = Duration::from_secs(20);

/// Two hosts on one wire: the near one has application, sidecar and control plane, the far one the
/// services. Gone with the test.
struct Hosts {
    near: String,
    far: String,
}

impl Hosts {
    fn make() -> io::Result<Self> {
        let id = std::process::id();
        let hosts = Self { near: format!("segue-near-{id}"), far: format!("segue-far-{id}") };
        for host in [&hosts.near, &hosts.far] {
            run("ip", &["netns", "add", host])?;
            run("ip", &["-n", host, "link", "set", "lo", "up"])?;
        }
        run(
            "ip",
            &[
                "link",
                "add",
                "sg0",
                "netns",
                &hosts.near,
                "type",
                "veth",
                "peer",
                "sg1",
                "netns",
                &hosts.far,
            ],
        )?;
        for (host, link, address) in [(&hosts.near, "sg0", NEAR), (&hosts.far, "sg1", FAR)] {
            run("ip", &["-n", host, "address", "add", &format!("{address}/24"), "dev", link])?;
            run("ip", &["-n", host, "link", "set", link, "up"])?;
        }
        Ok(hosts)
    }

    /// Runs a program on the near host, as its application would.
    fn near(&self, program: &str, args: &[&str]) -> io::Result<String> {
        let mut all = vec!["netns", "exec", &self.near, program];
        all.extend(args);
        run("ip", &all)
    }

    fn on(host: &str, name: &str, program: impl AsRef<Path>, dir: &Path) -> Program {
        Program::new(name, "ip", dir).arg("netns").arg("exec").arg(host).arg(program.as_ref())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "delete", host]).status();
        }
    }
}

fn run(program: &str, args: &[&str]) -> io::Result<String> {
    let Output { status, stdout, stderr } = Command::new(program).args(args).output()?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&stderr);
    Err(io::Error::other(format!("{program} {args:?}: {status}: {stderr}")))
}

/// The programs that the test needs, and the right to use them.
fn tools() -> Result<(), String> {
    for (program, package) in [
        ("ip", "iproute2"),
        ("iptables-restore", "iptables"),
        ("setpriv", "util-linux"),
        ("curl", "curl"),
        ("openssl", "openssl"),
        ("python3", "python3"),
    ] {
        peers::on_path(program).ok_or_else(|| {
            format!("{program} not found: install {package}, or run cargo xtask test")
        })?;
    }
    let id = run("id", &["-u"]).map_err(|error| error.to_string())?;
    if id.trim() == "0" { Ok(()) } else { Err("network namespaces take root".into()) }
}

fn python(host: &str, name: &str, dir: &Path, script: &str) -> Process {
    Hosts::on(host, name, "python3", dir).flag("-c", script).start().unwrap()
}

/// Speaks first, then echoes to the end of what it hears, and says how much that was.
const GREETER: &str = "
import socket, sys, threading
listener = socket.create_server(('10.77.0.2', 2525))
def serve(caller):
    caller.sendall(b'220 ready\\r\\n')
    heard = 0
    while piece := caller.recv(65536):
        heard += len(piece)
    caller.sendall(b'heard %d' % heard)
    caller.close()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],)).start()
";

/// Waits for the server to speak, sends a megabyte, ends its side, and prints what it is told.
const LISTENER: &str = "
import socket
caller = socket.create_connection(('10.77.0.2', 2525), timeout=10)
greeting = caller.recv(100)
caller.sendall(b'x' * 1000000)
caller.shutdown(socket.SHUT_WR)
print(greeting.decode().strip(), caller.recv(100).decode())
";

/// What an application says in TLS to a host that only the mesh knows, and who answers.
const TLS_CALLER: &str = "
import socket, ssl
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
raw = socket.create_connection(('10.77.0.2', 443), timeout=10)
with context.wrap_socket(raw, server_hostname='DB.example.com') as caller:
    print(caller.recv(100).decode())
";

const TLS_SERVER: &str = "
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(('10.77.0.2', 9443))
while True:
    try:
        with context.wrap_socket(listener.accept()[0], server_side=True) as caller:
            caller.sendall(b'the database')
    except OSError:
        pass
";

const MESH: &str = "
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: chat}
spec:
  versions:
    - {name: v1, endpoints: ['10.77.0.2:9001']}
    - {name: v2, endpoints: ['10.77.0.2:9002']}
---
apiVersion: segue.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  targetRef: {name: chat}
  rules:
    - backendRefs: [{name: chat, version: v2}]
---
apiVersion: segue.dev/v1alpha1
kind: Service
metadata: {name: database}
spec:
  protocol: tcp
  port: 443
  hosts: [db.example.com]
  versions: [{name: v1, endpoints: ['10.77.0.2:9443']}]
";

#[test]
fn an_application_that_knows_nothing_of_its_sidecar_is_routed() {
    let _turn = alone();
    let Some(()) = peers::or_skip(tools()) else { return };
    let binaries = Binaries::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let hosts = Hosts::make().unwrap();
    let sidecar_program = binaries.sidecar();
    let capture = |verb: &[&str]| {
        let mut args = vec!["capture"];
        args.extend(verb);
        hosts.near(sidecar_program.to_str().unwrap(), &args)
    };
    let before = hosts.near("iptables-save", &["-t", "nat"]).unwrap();

    let echo = |version: &str, port: u16| {
        Hosts::on(&hosts.far, version, binaries.echo(), dir)
            .flag("--version", version)
            .flag("--address", format!("{FAR}:{port}"))
            .start()
            .unwrap()
    };
    let _services = [echo("v1", 9001), echo("v2", 9002), echo("direct", 8080)];
    let (key, certificate) = (dir.join("key.pem"), dir.join("certificate.pem"));
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=db";
    let mut words: Vec<&str> = words.split(' ').collect();
    words.extend(["-keyout", key.to_str().unwrap(), "-out", certificate.to_str().unwrap()]);
    run("openssl", &words).unwrap();
    let _greeter = python(&hosts.far, "greeter", dir, GREETER);
    let _database = Hosts::on(&hosts.far, "database", "python3", dir)
        .flag("-c", TLS_SERVER)
        .arg(&certificate)
        .arg(&key)
        .start()
        .unwrap();

    let control_plane = Hosts::on(&hosts.near, "control-plane", binaries.control_plane(), dir)
        .arg("--insecure-dev")
        .flag("--data-dir", dir.join("control-plane"))
        .start()
        .unwrap();
    control_plane.listening("admin").unwrap();
    let sidecar = Hosts::on(&hosts.near, "sidecar", "setpriv", dir)
        .flag("--reuid", SIDECAR_UID)
        .arg("--clear-groups")
        .arg(&sidecar_program)
        .flag("--service", "caller")
        .flag("--node-id", "caller-1")
        .arg("--capture")
        .start()
        .unwrap();
    sidecar.listening("outbound").unwrap();
    let file = dir.join("mesh.yaml");
    std::fs::write(&file, MESH).unwrap();
    let cli = binaries.cli();
    let apply = ["apply", "--wait", "-f", file.to_str().unwrap()];
    hosts.near(cli.to_str().unwrap(), &apply).unwrap();

    let rules = ["install", "--uid", SIDECAR_UID, "--exclude-outbound-ports", "7777"];
    capture(&rules).unwrap();
    let once = hosts.near("iptables-save", &["-t", "nat"]).unwrap();
    capture(&rules).unwrap();
    let twice = hosts.near("iptables-save", &["-t", "nat"]).unwrap();
    assert_eq!(rules_of(&once), rules_of(&twice), "rules that are there are not added again");

    let fetch = |host: &str, port: u16| {
        let url = format!("http://{FAR}:{port}/");
        let host = format!("Host: {host}");
        hosts.near("curl", &["-s", "--max-time", "10", "-H", &host, "-w", "%{http_code}", &url])
    };
    // Whatever the address, the host decides.
    wait::until("a captured request is routed", LIMIT, || {
        fetch("chat", 8080).ok().filter(|answer| answer.contains("\"version\":\"v2\""))
    })
    .unwrap();
    // A host that nobody has goes where it wanted to go.
    let direct = fetch("elsewhere.test", 8080).unwrap();
    assert!(
        direct.contains("\"version\":\"direct\"") && direct.contains("elsewhere.test"),
        "{direct}"
    );
    let http2 = hosts.near(
        "curl",
        &[
            "-s",
            "--max-time",
            "10",
            "--http2-prior-knowledge",
            "-H",
            "Host: chat",
            "http://10.77.0.2:8080/",
        ],
    );
    assert!(http2.unwrap().contains("\"version\":\"v2\""));
    // No HTTP: a server that speaks first, and each side ends on its own.
    assert_eq!(hosts.near("python3", &["-c", LISTENER]).unwrap().trim(), "220 ready heard 1000000");
    // TLS goes by its server's name, and nobody here reads it.
    assert_eq!(hosts.near("python3", &["-c", TLS_CALLER]).unwrap().trim(), "the database");

    capture(&["remove"]).unwrap();
    let after = hosts.near("iptables-save", &["-t", "nat"]).unwrap();
    assert_eq!(rules_of(&after), rules_of(&before), "nothing of the rules is left");
    capture(&["remove"]).unwrap();
    assert!(fetch("chat", 8080).unwrap().contains("\"version\":\"direct\""));
}

/// Chains and rules of a listing, without counters and times.
fn rules_of(listing: &str) -> Vec<String> {
    let lines = listing.lines().filter(|line| line.starts_with("-A") || line.starts_with(":SEGUE"));
    lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned()).collect()
}
