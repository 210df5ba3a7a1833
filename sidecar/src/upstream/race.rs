//! Several addresses of one peer, of which the first to answer counts (Happy Eyeballs, RFC 8305).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

/// Time after which the next address is tried beside those that have not answered, the RFC's
/// recommendation.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Tries the addresses in their order, the next one when the one before has failed or is slow. The
/// error is that of the last one to fail.
pub(super) async fn race<T, F: Future<Output = io::Result<T>>>(
    mut addresses: impl Iterator<Item = SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut running = FuturesUnordered::new();
    let mut error = None;
    loop {
        let next = addresses.next();
        let more = next.is_some();
        running.extend(next.map(&attempt));
        let slow = sleep(ATTEMPT_DELAY);
        tokio::pin!(slow);
        // Until one fails, or is slow while there are others to try.
        loop {
            tokio::select! {
                ended = running.next() => match ended {
                    Some(Ok(connected)) => return Ok(connected),
                    Some(Err(failed)) => error = Some(failed),
                    None => {
                        let none = || io::Error::from(io::ErrorKind::AddrNotAvailable);
                        return Err(error.unwrap_or_else(none));
                    }
                },
                () = &mut slow, if more => {}
            }
            if more {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    /// What an address does: after so many milliseconds it connects, or fails.
    type Peer = (u64, bool);

    async fn raced(peers: &[Peer]) -> (Result<u16, u16>, u128, Vec<(u16, u128)>) {
        let (begun, tried) = (Instant::now(), Mutex::new(Vec::new()));
        let addresses = (0..peers.len()).map(|i| SocketAddr::from(([127, 0, 0, 1], i as u16)));
        let attempt = async |address: SocketAddr| {
            tried.lock().unwrap().push((address.port(), begun.elapsed().as_millis()));
            let (after, good) = peers[usize::from(address.port())];
            sleep(Duration::from_millis(after)).await;
            if good {
                Ok(address.port())
            } else {
                Err(io::Error::other(address.port().to_string()))
            }
        };
        let result = race(addresses, attempt).await;
        let result = result.map_err(|error| error.to_string().parse().unwrap());
        let took = begun.elapsed().as_millis();
        (result, took, tried.into_inner().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_has_250_ms_before_the_next_is_tried_beside_it() {
        let (result, took, tried) = raced(&[(9_000, true), (40, true), (1, true)]).await;
        assert_eq!((result, took), (Ok(1), 290));
        assert_eq!(tried, [(0, 0), (1, 250)]);
        // The first one is still heard.
        let (result, took, _) = raced(&[(300, true), (400, true)]).await;
        assert_eq!((result, took), (Ok(0), 300));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_makes_way_at_once() {
        let (result, took, tried) = raced(&[(5, false), (5, false), (7, true)]).await;
        assert_eq!((result, took), (Ok(2), 17));
        assert_eq!(tried, [(0, 0), (1, 5), (2, 10)]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_fails_when_all_have() {
        let (result, took, _) = raced(&[(600, false), (5, false)]).await;
        assert_eq!((result, took), (Err(0), 600));
        let (result, took, _) = raced(&[(5, false)]).await;
        assert_eq!((result, took), (Err(0), 5));
    }
}
