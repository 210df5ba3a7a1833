//! The control plane's side of an xDS stream, under requests that no client would send in an order
//! that none would send them in. In the end a client that behaves takes over, and must hold the
//! snapshot.
//!
//! The first byte says what the client can do. Then come steps: a byte for the kind, and what the kind
//! takes.

mod client;
mod words;

use std::collections::VecDeque;
use std::sync::Arc;

use segue_control_plane_core::snapshot::XdsSnapshot;
use segue_control_plane_core::xds::{Delta, Session, StateOfTheWorld};

use self::client::Held;
use self::words::{Speech, snapshot};
use crate::input::Input;

const MOST_STEPS: usize = 200;
/// Responses to one step: every type in every stage, and some more.
const MOST_RESPONSES: usize = 64;
/// Rounds of answers until nothing is left to say.
const MOST_ROUNDS: usize = 100;

pub fn check_delta(bytes: &[u8]) {
    run::<Delta>(bytes);
}

pub fn check_state_of_the_world(bytes: &[u8]) {
    run::<StateOfTheWorld>(bytes);
}

/// One stream: the server's state, and what a client that takes all it is sent has by now.
struct Stream<V: Speech> {
    session: Session<V>,
    held: Held,
    /// Nonces of responses that nobody has answered, and their types.
    unanswered: VecDeque<(Arc<str>, String)>,
    last_nonce: u64,
}

fn run<V: Speech>(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let client = words::client(input.byte());
    let mut target = snapshot(u64::from(input.byte() & 1), &mut input);
    let new = |target: &Arc<XdsSnapshot>| Stream::<V> {
        session: Session::new(Arc::clone(target), client),
        held: Held::default(),
        unanswered: VecDeque::new(),
        last_nonce: 0,
    };
    let mut stream = new(&target);
    for step in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        let is_good = match input.byte() % 8 {
            0 => {
                target = snapshot(step as u64 + 2, &mut input);
                stream.session.offer(Arc::clone(&target));
                true
            }
            1 => stream.receive(V::decoded(input.piece())),
            2 | 3 => {
                let nonce = stream.some_nonce(&mut input);
                stream.receive(Some(V::asking(&mut input, nonce)))
            }
            4 | 5 => stream.answer(&mut input),
            6 => {
                stream.session.stop_waiting();
                true
            }
            _ => {
                for beat in stream.session.heartbeat() {
                    stream.note(&beat);
                }
                true
            }
        };
        if !is_good {
            stream = new(&target);
        }
        stream.respond();
    }
    // All of it is new, so that every refusal is overtaken.
    let last = words::last(MOST_STEPS as u64 + 2);
    stream.session.offer(Arc::clone(&last));
    stream.settle(&last);
    stream.holds(&last);
}

impl<V: Speech> Stream<V> {
    /// Takes a request; false where that ends the stream.
    fn receive(&mut self, request: Option<V::Request>) -> bool {
        let Some(request) = request else { return true };
        let type_url = V::type_url(&request).to_owned();
        let is_first = !self.session.holding().types.iter().any(|held| *held.type_url == *type_url);
        let brought = if is_first { V::brought(&request) } else { client::Versions::new() };
        if self.session.receive(request).is_err() {
            return false;
        }
        self.held.bring(&type_url, brought);
        self.held.keep_what_is_wanted(&self.session.holding());
        true
    }

    /// Answers the oldest response, as its byte says: ACK, or NACK with names or without.
    fn answer(&mut self, input: &mut Input<'_>) -> bool {
        let how = input.byte();
        let Some((type_url, nonce)) = self.unanswered.pop_front() else { return true };
        let reason = match how % 4 {
            0 => Some(String::new()),
            1 => Some(format!("refused: {}", words::name(how >> 2))),
            _ => None,
        };
        let request = V::answering(&type_url, nonce, reason, self.names(&type_url));
        self.receive(Some(request))
    }

    /// The names that the server thinks are wanted, as every state-of-the-world request repeats them.
    fn names(&self, type_url: &str) -> Vec<String> {
        let holding = self.session.holding();
        let held = holding.types.iter().find(|held| *held.type_url == *type_url);
        let names = held.into_iter().flat_map(|held| {
            let star = held.wildcard.then(|| "*".to_owned());
            star.into_iter().chain(held.names.iter().map(ToString::to_string))
        });
        names.collect()
    }

    fn some_nonce(&self, input: &mut Input<'_>) -> String {
        match input.byte() % 4 {
            0 => String::new(),
            1 => self.last_nonce.to_string(),
            2 => self.unanswered.back().map_or_else(String::new, |(_, nonce)| nonce.clone()),
            _ => "no nonce".to_owned(),
        }
    }

    fn respond(&mut self) {
        for _ in 0..MOST_RESPONSES {
            let Some(response) = self.session.respond() else { return };
            self.note(&response);
        }
        panic!("more than {MOST_RESPONSES} responses to one step");
    }

    fn note(&mut self, response: &segue_control_plane_core::xds::Response) {
        let nonce: u64 = response.nonce.parse().unwrap();
        assert!(nonce > self.last_nonce, "nonces count");
        self.last_nonce = nonce;
        let holding = self.session.holding();
        let is_known = holding.types.iter().any(|held| held.type_url == response.type_url);
        assert!(is_known, "{} was not asked for", response.type_url);
        V::apply(&mut self.held, response, &holding);
        self.unanswered.push_back((Arc::clone(&response.type_url), response.nonce.clone()));
    }

    /// From here on everything is accepted, until the last snapshot is told.
    fn settle(&mut self, last: &XdsSnapshot) {
        for _ in 0..MOST_ROUNDS {
            self.respond();
            if self.unanswered.is_empty() {
                let is_last = self.session.target_revision() == last.revision;
                if is_last && !self.session.is_waiting() {
                    return;
                }
                // What a client never asks for is given up, in every pass anew.
                self.session.stop_waiting();
            }
            while let Some((type_url, nonce)) = self.unanswered.pop_front() {
                let names = self.names(&type_url);
                let request = V::answering(&type_url, nonce, None, names);
                assert!(self.receive(Some(request)), "an answer is never malformed");
            }
        }
        panic!("it does not end");
    }

    /// The client has what it asked for of a snapshot, and the server knows.
    fn holds(&self, snapshot: &XdsSnapshot) {
        assert_eq!(self.session.refusals().count(), 0, "everything was accepted in the end");
        for held in self.session.holding().types {
            let all = snapshot.of_type(&held.type_url).into_iter().flatten();
            let wanted: client::Versions = all
                .filter(|(name, _)| held.wildcard || held.names.contains(*name))
                .map(|(name, one)| (name.to_string(), one.version().to_owned()))
                .collect();
            let known: client::Versions = held
                .resources()
                .map(|one| (one.name.to_string(), one.version.to_owned()))
                .collect();
            assert_eq!(known, wanted, "as the server thinks: {}", held.type_url);
            let mut has = self.held.of(&held.type_url);
            if !V::tells_what_is_gone(&held) {
                has.retain(|name, _| wanted.contains_key(name));
            }
            assert_eq!(has, wanted, "as the client has it: {}", held.type_url);
        }
    }
}
