//! Load reports of one node, added up. Each of its streams tells what came since its last report.

use super::record::{Load, VersionTraffic};

/// Most versions of one node whose requests are counted.
const MAX_VERSIONS: usize = 1_000;

/// The open load streams of a node: several where nodes share an id.
#[derive(Debug, Default)]
pub(super) struct Loads {
    streams: Vec<LoadStream>,
}

#[derive(Debug)]
struct LoadStream {
    number: u64,
    /// What it said last of requests in flight, where there are any.
    in_flight: Vec<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    service: String,
    version: String,
    requests: u64,
}

impl Loads {
    pub fn enter(&mut self, number: u64) {
        self.streams.push(LoadStream { number, in_flight: Vec::new() });
    }

    /// Adds a report to the totals, which are in the order of service and version. Answers how many
    /// versions found no place.
    pub fn add(
        &mut self,
        number: u64,
        loads: Vec<Load>,
        totals: &mut Vec<VersionTraffic>,
    ) -> usize {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.number == number) else {
            return 0;
        };
        // A report speaks of all that has load: what it leaves out has nothing in flight.
        stream.settle(totals);
        let mut left_out = 0;
        for load in loads {
            let at = match place(totals, &load.service, &load.version) {
                Ok(at) => at,
                Err(_) if totals.len() >= MAX_VERSIONS => {
                    left_out += 1;
                    continue;
                }
                Err(at) => {
                    let (service, version) = (load.service.clone(), load.version.clone());
                    let new = VersionTraffic { service, version, ..VersionTraffic::default() };
                    totals.insert(at, new);
                    at
                }
            };
            let total = &mut totals[at];
            total.requests = total.requests.saturating_add(load.requests);
            total.failures = total.failures.saturating_add(load.failures);
            total.dropped = total.dropped.saturating_add(load.dropped);
            total.in_flight = total.in_flight.saturating_add(load.in_flight);
            if load.in_flight > 0 {
                let Load { service, version, in_flight: requests, .. } = load;
                stream.in_flight.push(InFlight { service, version, requests });
            }
        }
        left_out
    }

    /// A stream is closed, and speaks of no requests any more.
    pub fn leave(&mut self, number: u64, totals: &mut [VersionTraffic]) {
        if let Some(at) = self.streams.iter().position(|stream| stream.number == number) {
            self.streams.remove(at).settle(totals);
        }
    }

    pub fn are_open(&self) -> bool {
        !self.streams.is_empty()
    }
}

impl LoadStream {
    /// Takes back what it said of requests in flight.
    fn settle(&mut self, totals: &mut [VersionTraffic]) {
        for InFlight { service, version, requests } in self.in_flight.drain(..) {
            if let Ok(at) = place(totals, &service, &version) {
                totals[at].in_flight = totals[at].in_flight.saturating_sub(requests);
            }
        }
    }
}

fn place(totals: &[VersionTraffic], service: &str, version: &str) -> Result<usize, usize> {
    totals.binary_search_by(|total| {
        (total.service.as_str(), total.version.as_str()).cmp(&(service, version))
    })
}
