//! A real etcd of one member.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::process::{Process, Program};
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(30);
/// Another process may take a free port before etcd does.
const ATTEMPTS: usize = 3;

/// Starts `program` with its data and its log in `dir`; gives its URL too.
pub fn start(program: &Path, dir: &Path) -> io::Result<(Process, String)> {
    let mut attempt = 1;
    loop {
        match start_once(program, &dir.join(format!("etcd-{attempt}")), dir) {
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

fn start_once(program: &Path, data: &Path, logs: &Path) -> io::Result<(Process, String)> {
    let (port, peer_port) = (free_port()?, free_port()?);
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut process = Program::new("etcd", program, logs)
        .flag("--name", "one")
        .flag("--data-dir", data)
        .flag("--listen-client-urls", &client)
        .flag("--advertise-client-urls", &client)
        .flag("--listen-peer-urls", &peer)
        .flag("--initial-advertise-peer-urls", &peer)
        .flag("--initial-cluster", format!("one={peer}"))
        .start()?;
    let answers = wait::until("etcd listens", START_LIMIT, || {
        let listens = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        (listens || !process.is_running()).then_some(listens)
    })?;
    if answers { Ok((process, client)) } else { Err(io::Error::other(process.log_tail())) }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
