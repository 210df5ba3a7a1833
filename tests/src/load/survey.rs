//! Which version each of many keys meets now.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::connection::{Connection, Protocol};

/// Connections of a survey.
const CONNECTIONS: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks `GET /` once for each key, in `header`, and gives the versions in the order of the keys.
/// One failed request fails the survey.
pub fn survey(
    target: SocketAddr,
    authority: &str,
    header: &str,
    keys: &[String],
) -> io::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared: Arc<(String, String, Vec<String>)> =
        Arc::new((authority.to_owned(), header.to_owned(), keys.to_vec()));
    let next = Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        let tasks: Vec<_> = (0..CONNECTIONS)
            .map(|i| {
                let protocol = if i % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
                tokio::spawn(ask_some(protocol, target, Arc::clone(&shared), Arc::clone(&next)))
            })
            .collect();
        let mut versions = vec![String::new(); keys.len()];
        for task in tasks {
            for (index, version) in task.await.map_err(io::Error::other)?? {
                versions[index] = version;
            }
        }
        Ok(versions)
    })
}

async fn ask_some(
    protocol: Protocol,
    target: SocketAddr,
    shared: Arc<(String, String, Vec<String>)>,
    next: Arc<AtomicUsize>,
) -> io::Result<Vec<(usize, String)>> {
    let (authority, header, keys) = &*shared;
    let failed = |why: &dyn std::fmt::Display| io::Error::other(format!("survey: {why}"));
    let mut connection =
        Connection::open(protocol, target, TIMEOUT).await.map_err(|error| failed(&error))?;
    let mut versions = Vec::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(key) = keys.get(index) else { return Ok(versions) };
        let answer = connection
            .ask(authority, "/", &[(header, key)], None)
            .await
            .map_err(|error| failed(&error))?;
        if answer.status != 200 || answer.version.is_empty() {
            return Err(failed(&format!("key {key} was answered with status {}", answer.status)));
        }
        versions.push((index, answer.version));
    }
}
