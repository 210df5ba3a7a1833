//! What clients ask for, in both variants: names that do not exist, that come twice, that are too
//! many, and types that nobody serves.

use segue_shared::xds_names::type_urls::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};

use super::world::{accept, ack, ask, holds, nack, said, snapshot, want};
use crate::xds::{Client, Delta, Malformed, Response, Session, StateOfTheWorld};

const STRANGE: &str = "type.googleapis.com/envoy.service.runtime.v3.Runtime";

fn delta(resources: &[(&'static str, &str, &str)]) -> Session<Delta> {
    Session::new(snapshot(1, resources), Client::default())
}

fn state_of_the_world(resources: &[(&'static str, &str, &str)]) -> Session<StateOfTheWorld> {
    Session::new(snapshot(1, resources), Client::default())
}

/// `name: code message` of each error.
fn errors(response: &Response) -> Vec<String> {
    let line = |error: &crate::xds::ResourceError| {
        format!("{}: {} {}", error.name, error.code, error.message)
    };
    response.errors.iter().map(line).collect()
}

#[test]
fn a_name_that_does_not_exist_is_told_in_either_variant_and_comes_when_it_does() {
    for type_url in [CLUSTER, LISTENER, ROUTE, ENDPOINT, SECRET] {
        let short = type_url.rsplit('.').next().unwrap();
        let not_found = [format!("a: 5 no such {short}")];
        let later = snapshot(2, &[(type_url, "a", "1")]);

        let mut session = delta(&[]);
        session.receive(want(type_url, &["a"], &[])).unwrap();
        let response = session.respond().unwrap();
        assert_eq!((said(&response).as_str(), errors(&response)), ("-a", not_found.to_vec()));
        session.receive(ack(&response)).unwrap();
        assert_eq!(session.respond(), None, "once");
        session.offer(later.clone());
        let response = session.respond().unwrap();
        assert_eq!((said(&response).as_str(), errors(&response).len()), ("+a=1", 0));

        let mut session = state_of_the_world(&[]);
        session.receive(ask(type_url, &["a"])).unwrap();
        let response = session.respond().unwrap();
        assert_eq!((holds(&response).as_str(), errors(&response)), ("", not_found.to_vec()));
        session.receive(accept(&response, &["a"])).unwrap();
        assert_eq!(session.respond(), None, "once");
        session.offer(later);
        let response = session.respond().unwrap();
        assert_eq!((holds(&response).as_str(), errors(&response).len()), ("a=1", 0));
    }
}

#[test]
fn what_a_client_brought_along_and_vanished_is_no_error() {
    let mut session = delta(&[]);
    let mut request = want(ENDPOINT, &["a"], &[]);
    request.initial_resource_versions.insert("a".to_owned(), "1".to_owned());
    session.receive(request).unwrap();
    session.stop_waiting();
    let response = session.respond().unwrap();
    assert_eq!((said(&response).as_str(), response.errors), ("-a", Vec::new()));
}

#[test]
fn a_type_that_nobody_serves_is_answered_in_either_variant() {
    let mut session = delta(&[]);
    session.receive(want(STRANGE, &["*"], &[])).unwrap();
    assert_eq!(said(&session.respond().unwrap()), "");
    let mut session = delta(&[]);
    session.receive(want(STRANGE, &["a"], &[])).unwrap();
    assert_eq!(said(&session.respond().unwrap()), "-a");
    let mut session = state_of_the_world(&[]);
    session.receive(ask(STRANGE, &["a"])).unwrap();
    let response = session.respond().unwrap();
    assert_eq!(errors(&response), ["a: 5 no such Runtime"]);
}

#[test]
fn secrets_come_by_name_and_never_for_an_empty_list() {
    let all = [(SECRET, "server", "1"), (SECRET, "other", "1")];
    let mut session = delta(&all);
    session.receive(want(SECRET, &[], &[])).unwrap();
    assert_eq!(session.respond(), None);
    session.receive(want(SECRET, &["server"], &[])).unwrap();
    assert_eq!(said(&session.respond().unwrap()), "+server=1");
    let mut session = state_of_the_world(&all);
    session.receive(ask(SECRET, &[])).unwrap();
    assert_eq!(session.respond(), None);
    session.receive(ask(SECRET, &["server"])).unwrap();
    assert_eq!(holds(&session.respond().unwrap()), "server=1");
}

#[test]
fn a_written_wildcard_asks_for_all_of_any_type() {
    for type_url in [CLUSTER, LISTENER, ROUTE, ENDPOINT, SECRET] {
        let all = [(type_url, "a", "1"), (type_url, "b", "1")];
        let mut session = delta(&all);
        session.receive(want(type_url, &["*"], &[])).unwrap();
        assert_eq!(said(&session.respond().unwrap()), "+a=1 +b=1");
        let mut session = state_of_the_world(&all);
        session.receive(ask(type_url, &["*"])).unwrap();
        assert_eq!(holds(&session.respond().unwrap()), "a=1 b=1");
    }
}

#[test]
fn a_client_that_goes_from_names_to_all_and_back_has_what_it_wants() {
    let world =
        |revision, version| snapshot(revision, &[(ROUTE, "a", version), (ROUTE, "b", version)]);
    let mut session: Session<StateOfTheWorld> = Session::new(world(1, "1"), Client::default());
    let steps: [(&[&str], &str); 3] = [(&["a"], "a=1"), (&["*"], "b=1"), (&["b", "*"], "b=1")];
    session.receive(ask(ROUTE, steps[0].0)).unwrap();
    for (at, (_, wanted)) in steps.iter().enumerate() {
        let response = session.respond().unwrap();
        assert_eq!(holds(&response), *wanted);
        let next = steps.get(at + 1).map_or(&["b"] as &[&str], |step| step.0);
        session.receive(accept(&response, next)).unwrap();
    }
    assert_eq!(session.respond(), None);
    session.offer(world(2, "2"));
    assert_eq!(holds(&session.respond().unwrap()), "b=2");
}

#[test]
fn a_name_that_comes_twice_counts_once() {
    let mut session = delta(&[(ENDPOINT, "a", "1")]);
    session.receive(want(ENDPOINT, &["a", "a", "b", "b"], &[])).unwrap();
    assert_eq!(said(&session.respond().unwrap()), "+a=1 -b");
    for type_url in [CLUSTER, ENDPOINT] {
        let mut session = state_of_the_world(&[(type_url, "a", "1")]);
        session.receive(ask(type_url, &["a", "*", "a"])).unwrap();
        assert_eq!(holds(&session.respond().unwrap()), "a=1");
    }
}

#[test]
fn what_is_too_much_ends_the_stream() {
    let mut session = delta(&[]);
    let many: Vec<String> = (0..65_537).map(|at| at.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(session.receive(want(ENDPOINT, &many, &[])), Err(Malformed::TooManyNames));
    let long = "x".repeat(1025);
    assert_eq!(session.receive(want(ENDPOINT, &[&long], &[])), Err(Malformed::LongName));
    assert_eq!(session.receive(want(&long, &["a"], &[])), Err(Malformed::LongName));
    assert_eq!(session.receive(want("", &["a"], &[])), Err(Malformed::NoType));
    let mut session = delta(&[]);
    for at in 0..32 {
        session.receive(want(&format!("type-{at}"), &["a"], &[])).unwrap();
    }
    assert_eq!(session.receive(want("type-32", &["a"], &[])), Err(Malformed::TooManyTypes));
}

#[test]
fn what_a_client_was_sent_and_never_answered_it_may_not_have() {
    let mut session = delta(&[(CLUSTER, "a", "1"), (CLUSTER, "b", "1")]);
    session.receive(want(CLUSTER, &[], &[])).unwrap();
    let unanswered = |session: &Session<Delta>| {
        let held = session.holding().types.remove(0);
        let unanswered = held.resources().filter(|one| one.is_unanswered);
        unanswered.map(|one| one.name.to_string()).collect::<Vec<_>>()
    };
    let all = session.respond().unwrap();
    assert_eq!(unanswered(&session), ["a", "b"]);
    session.receive(ack(&all)).unwrap();
    assert!(unanswered(&session).is_empty());
    session.offer(snapshot(2, &[(CLUSTER, "a", "1"), (CLUSTER, "b", "2")]));
    let one = session.respond().unwrap();
    session.stop_waiting();
    assert_eq!(unanswered(&session), ["b"], "however late it is");
    session.receive(nack(&one, "no")).unwrap();
    assert!(unanswered(&session).is_empty());
}

#[test]
fn what_a_client_holds_lacks_and_refuses_is_told() {
    let mut session = delta(&[(ENDPOINT, "a", "1"), (ENDPOINT, "b", "1"), (ENDPOINT, "c", "1")]);
    session.receive(want(ENDPOINT, &["a", "b", "never"], &[])).unwrap();
    let holding = session.holding();
    assert_eq!(holding.types[0].resources().count(), 0, "nothing was sent yet");
    let response = session.respond().unwrap();
    session.receive(nack(&response, "endpoints of b: port: must be below 65536")).unwrap();
    let holding = session.holding();
    let held = &holding.types[0];
    let told: Vec<_> = held
        .resources()
        .map(|one| (&**one.name, one.version, one.resource.is_some(), one.refusal.is_some()))
        .collect();
    assert_eq!(told, [("a", "1", true, false), ("b", "1", true, true)]);
    assert_eq!(held.unknown().map(|name| &**name).collect::<Vec<_>>(), ["never"]);
    assert_eq!(held.refusals().count(), 1);

    session.offer(snapshot(2, &[(ENDPOINT, "b", "2")]));
    session.stop_waiting();
    while session.respond().is_some() {}
    assert_eq!(held.resources().count(), 2, "what was kept stays as it was");
}
