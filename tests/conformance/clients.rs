//! httpx, http.client, curl and nghttp2's clients.

use std::path::Path;
use std::process::Command;

use segue_tests::peers;

use crate::alone;
use crate::script::{Way, pass, serve};

#[test]
fn python_clients_get_what_they_ask_for() {
    let Some(python) = peers::or_skip(peers::python_with("httpx")) else { return };
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(&python, "http_server", dir.path());
    let way = Way::to(address, "http");
    let cases = pass(&python, "http_cases.py", &[&way.outbound.to_string(), "app"]);
    assert!(cases >= 26, "{cases} cases");
}

#[test]
fn curl_gets_what_it_asks_for() {
    let Some(python) = peers::or_skip(peers::python_with("httpx")) else { return };
    let Some(curl) = peers::or_skip(peers::on_path("curl").ok_or_else(|| "no curl".into())) else {
        return;
    };
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(&python, "http_server", dir.path());
    let way = Way::to(address, "http");
    let upload = dir.path().join("upload");
    std::fs::write(&upload, vec![b'u'; 3_000_000]).unwrap();
    let upload = upload.to_str().unwrap();
    let proxy = format!("http://{}", way.outbound);
    let all = |flags: &[&str]| run(&curl, flags);
    let direct = |path: &str, flags: &[&str]| {
        let url = format!("http://{}{path}", way.outbound);
        all(&[&["-H", "Host: app", url.as_str()], flags].concat())
    };
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(direct("/bytes/100000", &[version]).len(), 100_000);
        assert_eq!(direct("/up", &[version, "-T", upload]).len(), 3_000_000, "{version}");
        assert_eq!(direct("/form", &[version, "-d", "a=b"]), "a=b");
        assert!(direct("/bytes/5", &[version, "-I"]).contains("ength: 5\r\n"));
        // Asks before it sends, and is told to go on.
        let expects = direct("/e", &[version, "-H", "Expect: 100-continue", "-T", upload]);
        assert_eq!(expects.len(), 3_000_000, "{version}");
        assert!(direct("/chunks", &[version]).ends_with("98,99,"));
    }
    assert!(direct("/old", &["--http1.0"]).starts_with("GET /old\n"));
    // As a proxy of its application, by its environment or by a flag.
    let by_proxy = all(&["-x", &proxy, "http://app/by-proxy"]);
    assert!(by_proxy.starts_with("GET /by-proxy\n") && by_proxy.contains("host: app\n"));
    // What an upgrade to HTTP/2 asks for is served as it is (row 28).
    assert!(direct("/h2c", &["--http2"]).starts_with("GET /h2c\n"));
}

#[test]
fn nghttp2s_clients_get_what_they_ask_for() {
    let Some(python) = peers::or_skip(peers::python_with("httpx")) else { return };
    let tool = |name: &str| {
        peers::or_skip(peers::on_path(name).ok_or_else(|| format!("{name} not found")))
    };
    let Some((nghttp, h2load)) = tool("nghttp").zip(tool("h2load")) else { return };
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(&python, "http_server", dir.path());
    let way = Way::to(address, "http");
    let url = format!("http://{}/bytes/5000", way.outbound);
    // Over prior knowledge, with padding, with one stream depending on another, without Huffman.
    for flags in [&["--padding=100"][..], &["--multiply=50"], &["--no-dep"], &["--trailer=x: y"]] {
        let told = run(&nghttp, &[&["-ns", "-H:authority: app", url.as_str()], flags].concat());
        let answers = told.lines().filter(|line| line.ends_with(" /bytes/5000"));
        let codes: Vec<&str> = answers.filter_map(|line| line.split_whitespace().nth(4)).collect();
        let asked = if flags == ["--multiply=50"] { 50 } else { 1 };
        assert_eq!(codes, vec!["200"; asked], "{flags:?}: {told}");
    }
    let load = ["-n2000", "-c4", "-m20", "-H:authority: app", &url];
    let told = run(&h2load, &load);
    assert!(told.contains("2000 succeeded, 0 failed, 0 errored"), "{told}");
}

fn run(program: &Path, flags: &[&str]) -> String {
    let mut command = Command::new(program);
    if program.ends_with("curl") {
        command.args(["-sS", "--max-time", "20", "--noproxy", ""]);
    }
    let output = command.args(flags).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{flags:?}: {}", text(&output.stderr));
    text(&output.stdout)
}
