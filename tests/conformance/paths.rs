//! Row 19: rules that keep callers from a page keep them from it however they spell its path, by the
//! judgement of real servers.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use segue_tests::mesh::Mesh;
use segue_tests::peers;
use segue_tests::process::{Process, Program};
use segue_tests::wait;
use segue_tests::written::service;

use crate::alone;

const SECRET: &str = "the page that nobody may see";
const PATIENCE: Duration = Duration::from_secs(10);

/// Ways to write `/admin`, and some that only look so.
fn spellings() -> Vec<String> {
    let mut all: Vec<String> = [
        "/admin",
        "/admin/",
        "//admin",
        "///admin",
        "/./admin",
        "/admin/.",
        "/a/../admin",
        "/a/b/../../admin",
        "/a/..//admin",
        "/../admin",
        "/../../admin",
        "/./../admin",
        "/%61dmin",
        "/%61%64%6d%69%6e",
        "/adm%69n",
        "/%2e/admin",
        "/%2e%2e/admin",
        "/a/%2e%2e/admin",
        "/a/%2E%2E/admin",
        "/a/.%2e/admin",
        "/a/%2e./admin",
        "/a%2f..%2fadmin",
        "/%2fadmin",
        "/%2Fadmin",
        "/a/..%2fadmin",
        "/a/%2e%2e%2fadmin",
        "\\admin",
        "/\\admin",
        "/a\\..\\admin",
        "/a/..\\admin",
        "/%5cadmin",
        "/a%5c..%5cadmin",
        "/a/..%5cadmin",
        "/;/admin",
        "/;x/admin",
        "/a;/../admin",
        "/a/..;/admin",
        "/a/..;x=1/admin",
        "/.;/admin",
        "/.;x/admin",
        "/admin;",
        "/admin;x=1",
        "/admin;/",
        "/admin;/..;/admin",
        "/%252e%252e/admin",
        "/a/%252e%252e/admin",
        "/%2561dmin",
        "/admin%00",
        "/admin%00.html",
        "/admin%20",
        "/admin%09",
        "/admin%0a",
        "/admin%0d%0a",
        "/admin#",
        "/admin#x",
        "/x#/../admin",
        "/admin?",
        "/admin?a=b",
        "/?/../admin",
        "/a?/../admin",
        "/admin/?x",
        "/Admin",
        "/ADMIN",
        "/admin%2f",
        "/admin/%2e",
        "/admin/x/..",
        "/admin/x/../",
        "/%c0%ae%c0%ae/admin",
        "/%u0061dmin",
        "/a/../%61dmin",
        "/a/..%00/admin",
        "/a/..%0d/admin",
        "/a/%zz/../admin",
        "/a/.../admin",
        "/...;/admin",
        "http://app/admin",
        "http://app/a/../admin",
        "http://app//admin",
        "http://other/admin",
        "admin",
        "*",
        "/\u{ff0e}\u{ff0e}/admin",
    ]
    .map(str::to_owned)
    .into();
    for depth in 1..8 {
        all.push(format!("/{}{}admin", "a/".repeat(depth), "../".repeat(depth)));
        all.push(format!("/{}{}admin", "a/".repeat(depth), "%2e%2e/".repeat(depth)));
    }
    all
}

#[test]
fn no_spelling_reaches_what_a_rule_keeps_away() {
    let Some(servers) = peers::or_skip(servers()) else { return };
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let elsewhere = mesh.echo("elsewhere").unwrap();
    let sidecar = mesh.sidecar("caller-1").unwrap();
    for server in servers {
        let dir = tempfile::tempdir().unwrap();
        let (_process, address) = server.start(dir.path());
        assert!(ask(address, "/admin/").contains(SECRET), "{} shows it by itself", server.name);
        let versions = [("open", vec![address]), ("elsewhere", vec![elsewhere.address])];
        let rules = "---\nkind: Route\nmetadata: {name: app}\nspec:\n  targetRef: {name: app}\n  \
                     rules:\n    - matches: [{path: {value: /admin}}]\n      \
                     backendRefs: [{name: app, version: elsewhere}]\n    \
                     - backendRefs: [{name: app, version: open}]\n";
        mesh.apply(&(service("app", &versions) + rules)).unwrap();
        let open = ask(sidecar.outbound, "/");
        assert!(open.ends_with("open to all"), "{}: {open}", server.name);
        let (mut served, mut refused) = (0, 0);
        for path in spellings() {
            let answer = ask(sidecar.outbound, &path);
            assert!(!answer.contains(SECRET), "{} showed it for {path:?}", server.name);
            match answer.split(' ').nth(1) {
                Some("400") => refused += 1,
                Some(_) => served += 1,
                None => panic!("{path:?}: {answer:?}"),
            }
        }
        println!("{}: {served} paths were served, {refused} refused", server.name);
        assert!(served > 30 && refused > 10, "{served} {refused}");
    }
}

fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _reset_or_end = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A server that shows the page under `/admin/` of its root.
struct Server {
    name: &'static str,
    program: std::path::PathBuf,
    /// Arguments, given where it may write and its port.
    arguments: fn(&Path, u16) -> Vec<String>,
}

fn servers() -> Result<[Server; 3], String> {
    let find = |name: &str, package: &str| {
        peers::on_path(name).ok_or_else(|| format!("{name} not found: install {package}"))
    };
    Ok([
        Server { name: "nginx", program: find("nginx", "nginx")?, arguments: nginx },
        Server { name: "Apache", program: find("apache2", "apache2")?, arguments: apache },
        Server { name: "Python", program: find("python3", "python3")?, arguments: python },
    ])
}

impl Server {
    fn start(&self, dir: &Path) -> (Process, SocketAddr) {
        let root = dir.join("root");
        fs::create_dir_all(root.join("admin")).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("index.html"), "open to all").unwrap();
        fs::write(root.join("admin/index.html"), SECRET).unwrap();
        // Whoever runs this may be root, and the servers then become somebody else.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir, everybody).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut program = Program::new(self.name, &self.program, dir);
        for argument in (self.arguments)(dir, port) {
            program = program.arg(argument);
        }
        let process = program.start().unwrap();
        let address = ([127, 0, 0, 1], port).into();
        wait::until("the server accepts", PATIENCE, || TcpStream::connect(address).ok()).unwrap();
        (process, address)
    }
}

fn nginx(dir: &Path, port: u16) -> Vec<String> {
    let dir = dir.display();
    let config = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error;\n\
         events {{}}\nhttp {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;\n\
         fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         server {{ listen 127.0.0.1:{port}; root {dir}/root; }} }}\n"
    );
    let file = format!("{dir}/nginx.conf");
    fs::write(&file, config).unwrap();
    ["-c", &file].map(str::to_owned).into()
}

fn apache(dir: &Path, port: u16) -> Vec<String> {
    let dir = dir.display();
    let config = format!(
        "Listen 127.0.0.1:{port}\nServerName app\nPidFile {dir}/pid\nErrorLog {dir}/error\n\
         Mutex file:{dir}\n\
         LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n\
         LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
         LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so\n\
         DocumentRoot {dir}/root\nDirectoryIndex index.html\nAllowEncodedSlashes On\n\
         <Directory {dir}/root>\nRequire all granted\n</Directory>\n"
    );
    let file = format!("{dir}/apache.conf");
    fs::write(&file, config).unwrap();
    ["-X", "-f", &file].map(str::to_owned).into()
}

fn python(dir: &Path, port: u16) -> Vec<String> {
    let root = dir.join("root").display().to_string();
    ["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory", &root]
        .map(str::to_owned)
        .into()
}
