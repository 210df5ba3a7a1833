//! How much one caller has in flight, so that none takes the places of all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Calls, and lasting streams, of one caller at one time: a quarter of all.
pub const MOST_EACH: usize = 16;

/// Whose places are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Name(String),
    /// Where callers have no name.
    Address(Option<IpAddr>),
}

/// What everybody has in flight; clones share it. Holds no entry for who has nothing.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    in_flight: Arc<Mutex<HashMap<Key, [usize; 2]>>>,
}

/// A place, taken until this is dropped.
#[derive(Debug)]
pub struct Place {
    crowd: Crowd,
    key: Key,
    streams: bool,
}

impl Crowd {
    /// A place, if this caller may have another one.
    pub fn enter(&self, key: Key, streams: bool) -> Option<Place> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut in_flight.entry(key.clone()).or_default()[usize::from(streams)];
        if *count >= MOST_EACH {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), key, streams })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut in_flight = self.crowd.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = in_flight.get_mut(&self.key) {
            let count = &mut counts[usize::from(self.streams)];
            *count = count.saturating_sub(1);
            if *counts == [0, 0] {
                in_flight.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_never_takes_the_places_of_another() {
        let crowd = Crowd::default();
        let key = |name: &str| Key::Name(name.to_owned());
        let places: Vec<Place> =
            (0..MOST_EACH).map(|_| crowd.enter(key("greedy"), false).unwrap()).collect();
        assert!(crowd.enter(key("greedy"), false).is_none());
        assert!(crowd.enter(key("greedy"), true).is_some(), "streams are counted apart");
        assert!(crowd.enter(key("other"), false).is_some());
        drop(places);
        assert!(crowd.enter(key("greedy"), false).is_some());
        assert!(crowd.in_flight.lock().unwrap().is_empty(), "who has nothing costs nothing");
    }
}
