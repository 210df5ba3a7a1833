//! An application that tells, in its answer, what it was asked, letter by letter.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::wire::Wire;

/// Header of answers that names the version; only applications have it.
pub const VERSION: &str = "x-upstream";
/// Header of requests that asks for a status.
pub const WANTED_STATUS: &str = "x-answer";
/// Where the head of the request stands in hexadecimal digits, in answers that have no body.
pub const SEEN: &str = "x-seen";

/// Serves until the process ends. Gives the address.
pub fn serve(version: &str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let version = version.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let version = version.clone();
            // A caller that goes away is its own affair.
            thread::spawn(move || converse(stream, &version));
        }
    });
    Ok(address)
}

fn converse(stream: TcpStream, version: &str) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    while let Some((head, raw)) = wire.head()? {
        let body = wire.body(&head, false)?;
        let status = head.one(WANTED_STATUS).unwrap_or("200");
        let mut answer = format!(
            "HTTP/1.1 {status} Told\r\n{VERSION}: {version}\r\nX-Old: old\r\nX-Many: 1\r\n\
             X-Many: 2\r\nServer: application\r\nCache-Control: no-store\r\n"
        );
        if head.first_line.starts_with("HEAD ") {
            let _ = write!(answer, "{SEEN}: ");
            for byte in &raw {
                let _ = write!(answer, "{byte:02x}");
            }
            answer.push_str("\r\n\r\n");
            wire.write(answer.as_bytes())?;
        } else {
            let _ = write!(answer, "Content-Length: {}\r\n\r\n", raw.len() + body.len());
            let mut answer = answer.into_bytes();
            answer.extend_from_slice(&raw);
            answer.extend_from_slice(&body);
            wire.write(&answer)?;
        }
    }
    Ok(())
}
