//! First bytes of a connection.

use segue_sidecar_core::detect::{MOST_BYTES, Spoken, spoken};

pub fn check(bytes: &[u8]) {
    let mut decided: Option<Spoken> = None;
    // However the bytes come, the decision is the same, and more of them never change it.
    for end in 0..=bytes.len().min(MOST_BYTES) {
        let now = spoken(&bytes[..end]);
        if decided.is_some() {
            assert_eq!(decided, now, "after {end} bytes");
        }
        decided = now;
    }
    match &decided {
        Some(Spoken::Tls { server_name: Some(name) }) => {
            assert!((1..=253).contains(&name.len()) && name.parse::<std::net::IpAddr>().is_err());
            let is_label = |label: &str| {
                let plain =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
                (1..=63).contains(&label.len()) && label.chars().all(plain)
            };
            assert!(name.split('.').all(is_label), "{name}");
        }
        Some(Spoken::Http1) => {
            let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
            assert!(line.windows(8).any(|part| part == b" HTTP/1."));
        }
        Some(Spoken::Http2) => assert!(bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        Some(Spoken::Tls { server_name: None } | Spoken::Other) => {}
        None => assert!(bytes.len() < MOST_BYTES),
    }
}
