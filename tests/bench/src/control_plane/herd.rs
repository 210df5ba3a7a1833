//! The load side, a process of its own: thousands of streams on one thread, told what to do by lines
//! on standard input, telling what it saw by lines of JSON on standard output.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::Semaphore;

use super::client::{Client, Holds};
use super::tally::Tally;

/// Pause before a lost stream is opened anew: a uniform draw between these, as sidecars do.
const PAUSE_MS: (u64, u64) = (400, 600);
/// Longest pause, as of sidecars.
const MOST_PAUSE_MS: u64 = 30_000;

/// Settings of the load side.
#[derive(Args)]
pub struct Herd {
    /// The control plane's xDS port.
    #[arg(long)]
    target: SocketAddr,
    #[arg(long)]
    streams: usize,
    /// Streams that get their first snapshot at one time. A control plane that starts with its
    /// fleet is another measurement.
    #[arg(long, default_value_t = 64)]
    opening: usize,
    /// The revision to begin with.
    #[arg(long)]
    revision: u64,
}

/// Runs until standard input ends.
pub fn run(herd: &Herd) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(follow(herd))
}

async fn follow(herd: &Herd) -> io::Result<()> {
    let tally = Arc::new(Tally::new(herd.streams));
    tally.expect(herd.revision);
    let holds = Holds::default();
    let places = Arc::new(Semaphore::new(herd.opening.max(1)));
    let begun = tally.now();
    for index in 0..herd.streams {
        let client = Client {
            index,
            target: herd.target,
            service: "default/caller".to_owned(),
            tally: Arc::clone(&tally),
            holds: Arc::clone(&holds),
        };
        tokio::spawn(live(client, Arc::clone(&places), herd.revision));
    }
    wait(&tally).await;
    say(&json!({"event": "synced", "tally": tally.summary(begun)}))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // A change is about to be made: count anew.
            ["expect", revision] => {
                tally.expect(revision.parse().map_err(io::Error::other)?);
                let begun = tally.now();
                say(&json!({"event": "expecting"}))?;
                wait(&tally).await;
                say(&json!({"event": "arrived", "tally": tally.summary(begun)}))?;
            }
            _ => return Err(io::Error::other(format!("no such command: {line:?}"))),
        }
    }
    Ok(())
}

/// A stream that is opened anew whenever it ends.
async fn live(client: Client, places: Arc<Semaphore>, first: u64) {
    let mut resume = false;
    let mut failures = 0;
    loop {
        let opened = async {
            // The place is free for the next one when the first snapshot is there.
            let place = if resume { None } else { places.acquire().await.ok() };
            let follow = client.follow(resume);
            tokio::pin!(follow);
            let Some(place) = place else { return follow.await };
            loop {
                tokio::select! {
                    ended = &mut follow => return ended,
                    () = tokio::time::sleep(Duration::from_millis(5)) => {
                        if client.tally.revision(client.index) >= first {
                            break;
                        }
                    }
                }
            }
            drop(place);
            follow.await
        };
        let Err(error) = opened.await else { return };
        if client.index == 0 {
            eprintln!("stream 0: {error}");
        }
        failures = if client.tally.had_mark(client.index) { 0 } else { failures + 1 };
        resume = true;
        let (least, most) = PAUSE_MS;
        let pause = least + draw() % (most - least);
        let pause = (pause << failures.min(6)).min(MOST_PAUSE_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

async fn wait(tally: &Tally) {
    while tally.has() < tally.streams() {
        let notified = tally.arrived.notified();
        let _ = tokio::time::timeout(Duration::from_millis(500), notified).await;
    }
}

fn say(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

/// A small generator (splitmix64): spread is all that is needed.
fn draw() -> u64 {
    static STATE: AtomicU64 = AtomicU64::new(1);
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}
