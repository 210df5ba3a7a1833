//! What a caller's connection costs that has had its answer and is silent since.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::{LOAD_CORE, Outcome, PROXY_CORE, Plan, Quantity};
use crate::measure;
use crate::peers::{self, Legs, Setup};
use crate::upstream::{SMALL_BYTES, Upstream};

pub const NAME: &str = "1,000 idle connections, HTTP/1.1";
const CONNECTIONS: usize = 1_000;
/// Until what was needed for the answers alone is given back.
const SETTLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);

const QUANTITIES: &[Quantity] = &[
    Quantity::new("KiB a connection", "kibPerConnection", 1),
    Quantity::new("RSS MiB before", "residentMiBBefore", 1),
    Quantity::new("RSS MiB with them", "residentMiB", 1),
];

/// Measures fresh proxies in each round: what was once allocated would be there already.
pub fn measure(plan: &Plan) -> io::Result<Outcome> {
    let mut outcome = Outcome::new(NAME, QUANTITIES);
    for _ in 0..plan.rounds.min(3) {
        let dir = tempfile::Builder::new().prefix("segue-bench-").tempdir()?;
        let upstream = Upstream::start(dir.path(), LOAD_CORE)?;
        let setup = Setup::new(Legs::HTTP1);
        let proxies =
            peers::start_all(setup, &upstream, dir.path(), PROXY_CORE, LOAD_CORE, &plan.only)?;
        for proxy in &proxies {
            // The first answers bring what one connection or a thousand need alike.
            drop((0..10).map(|_| asked(proxy.address)).collect::<io::Result<Vec<_>>>()?);
            thread::sleep(SETTLE);
            let before = measure::resident_mib(proxy.pid)?;
            let open =
                (0..CONNECTIONS).map(|_| asked(proxy.address)).collect::<io::Result<Vec<_>>>()?;
            thread::sleep(SETTLE);
            let with = measure::resident_mib(proxy.pid)?;
            let each = (with - before) * 1024.0 / open.len() as f64;
            outcome.add(proxy.name, &[each, before, with], 0);
        }
    }
    Ok(outcome)
}

/// A connection that has had one answer.
fn asked(address: SocketAddr) -> io::Result<TcpStream> {
    let mut caller = TcpStream::connect(address)?;
    caller.set_read_timeout(Some(PATIENCE))?;
    caller.write_all(b"GET / HTTP/1.1\r\nhost: chat\r\nx-user-id: 7\r\n\r\n")?;
    let mut answer = [0; 8 * 1024];
    let mut length = 0;
    while !answer[..length].ends_with(&[b'x'; SMALL_BYTES]) {
        let read = caller.read(&mut answer[length..])?;
        if read == 0 {
            return Err(io::Error::other("the proxy closed the connection"));
        }
        length += read;
    }
    Ok(caller)
}
