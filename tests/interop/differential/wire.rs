//! HTTP/1.1 as bytes, read as plainly as it can be: what two proxies did is compared, not what a
//! library makes of it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any limit that a route of the test has.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// The head of a message, its lines in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub first_line: String,
    pub lines: Vec<(String, String)>,
}

/// Lines of each name, in their order; what order different names have means nothing (RFC 9110
/// section 5.3).
pub type Fields = BTreeMap<String, Vec<String>>;

impl Wire {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address)?)
    }

    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, read: Vec::new() })
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// `None`: the other side closed before it said anything.
    pub fn head(&mut self) -> io::Result<Option<(Head, Vec<u8>)>> {
        loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let raw: Vec<u8> = self.read.drain(..end + 4).collect();
                return Ok(Some((Head::parse(&raw), raw)));
            }
            if self.fill()? == 0 {
                let nothing = self.read.is_empty();
                return if nothing { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The body of a message with this head, without its framing.
    pub fn body(&mut self, head: &Head, ends_with_connection: bool) -> io::Result<Vec<u8>> {
        if let Some(length) = head.one("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            self.reach(length)?;
            return Ok(self.read.drain(..length).collect());
        }
        if head.one("transfer-encoding").is_none() {
            if ends_with_connection {
                while self.fill()? > 0 {}
                return Ok(std::mem::take(&mut self.read));
            }
            return Ok(Vec::new());
        }
        let mut body = Vec::new();
        loop {
            let size = self.line()?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            self.reach(size + 2)?;
            body.extend(self.read.drain(..size));
            self.read.drain(..2);
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|bytes| bytes == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more()?;
        }
    }

    fn reach(&mut self, length: usize) -> io::Result<()> {
        while self.read.len() < length {
            self.more()?;
        }
        Ok(())
    }

    fn more(&mut self) -> io::Result<()> {
        if self.fill()? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 8192];
        let count = self.stream.read(&mut piece)?;
        self.read.extend_from_slice(&piece[..count]);
        Ok(count)
    }
}

impl Head {
    pub fn parse(raw: &[u8]) -> Self {
        let text = String::from_utf8_lossy(raw);
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let pairs = lines.filter_map(|line| line.split_once(':'));
        let pairs = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Self { first_line, lines: pairs.collect() }
    }

    /// The first line of a name.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// All but those that are not `wanted`.
    pub fn fields(&self, wanted: impl Fn(&str) -> bool) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in self.lines.iter().filter(|(name, _)| wanted(name)) {
            fields.entry(name.clone()).or_default().push(value.clone());
        }
        fields
    }
}
