//! How far a revision is, in the words of the API.

use segue_proto::admin::v1 as api;
use segue_proto::admin::v1::wait_activated_response::{Outcome, Rejecting};
use segue_shared::ids::Revision;
use segue_shared::xds_names::short_type;

use crate::fleet::{Progress, Refused, Rejection};

/// The progress of `revision` on the connected nodes, with an outcome where it is decided.
/// `newest` is what the store holds: a revision that is not committed yet is not activated by a
/// fleet of none. Nor is one by those who are known while there may be others.
pub fn told(revision: Revision, newest: Revision, of: Progress) -> api::WaitActivatedResponse {
    let outcome = if !of.refused.is_empty() {
        Outcome::Rejected
    } else if newest >= revision && of.activated == of.total && of.unsettled.is_none() {
        Outcome::Activated
    } else {
        Outcome::Unspecified
    };
    api::WaitActivatedResponse {
        revision: revision.0,
        total: count(of.total),
        clients: count(of.clients),
        accepted: count(of.accepted),
        activated: count(of.activated),
        rejecting: rejecting(of.refused),
        missing: of.missing,
        done: outcome != Outcome::Unspecified,
        outcome: outcome.into(),
        unsettled: of.unsettled.map(|it| it.why.to_string()).unwrap_or_default(),
    }
}

pub fn rejecting(refused: Vec<Refused>) -> Vec<Rejecting> {
    let one = |refused: Refused| Rejecting {
        node_id: refused.node_id.to_string(),
        rejection: Some(rejection(&refused.rejection)),
    };
    refused.into_iter().map(one).collect()
}

pub fn rejection(rejection: &Rejection) -> api::RejectedResource {
    api::RejectedResource {
        r#type: short_type(&rejection.type_url).to_owned(),
        resource: rejection.resource.clone(),
        field_path: rejection.field_path.clone(),
        reason: rejection.reason.to_string(),
        revision: rejection.revision.0,
    }
}

pub fn count(nodes: usize) -> u32 {
    u32::try_from(nodes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use segue_shared::xds_names::type_urls;

    use super::*;
    use crate::fleet::{Acked, Delivery, Fleet, Gate, Introduction, Presence, StreamKind};

    /// A fleet, and the streams that keep its nodes connected.
    #[derive(Default)]
    struct Connected {
        fleet: Fleet,
        streams: Vec<Presence>,
    }

    impl Connected {
        fn enter(&mut self, node_id: &str, kind: StreamKind, is_sidecar: bool) -> &Presence {
            let node_id = node_id.to_owned();
            let who = Introduction { node_id, is_sidecar, ..Introduction::default() };
            self.streams.push(self.fleet.enter(who, kind).unwrap());
            self.streams.last().unwrap()
        }

        /// A sidecar that accepted and runs on these revisions.
        fn with(self, node_id: &str, accepted: u64, activated: u64) -> Self {
            self.refusing(node_id, accepted, activated, None)
        }

        /// One that also refuses a cluster of a revision.
        fn refusing(
            mut self,
            node_id: &str,
            accepted: u64,
            activated: u64,
            refused: impl Into<Option<u64>>,
        ) -> Self {
            let rejections = refused.into().map(|revision| Rejection {
                type_url: type_urls::CLUSTER.to_owned(),
                resource: "default/chat/v2".to_owned(),
                field_path: String::new(),
                reason: "no".into(),
                revision: Revision(revision),
            });
            self.enter(node_id, StreamKind::Report, true).delivered(Delivery {
                accepted: Revision(accepted),
                activated: Revision(activated),
                rejections: rejections.into_iter().collect(),
            });
            self
        }

        /// What is told of revision 5 where the store holds `newest`.
        fn told(&self, newest: u64) -> api::WaitActivatedResponse {
            told(Revision(5), Revision(newest), self.fleet.progress(Revision(5)))
        }

        fn outcome(&self, newest: u64) -> Outcome {
            self.told(newest).outcome()
        }
    }

    fn fleet() -> Connected {
        Connected::default()
    }

    fn acked(revision: u64) -> Acked {
        Acked { accepted: Revision(revision), ..Acked::default() }
    }

    #[test]
    fn every_connected_sidecar_must_run_on_it() {
        let progress = fleet().with("a", 5, 5).with("b", 5, 4).told(5);
        assert_eq!((progress.total, progress.accepted, progress.activated), (2, 2, 1));
        assert_eq!(progress.missing, ["b"]);
        assert!(!progress.done);
        assert_eq!(fleet().with("a", 5, 5).with("b", 6, 6).outcome(5), Outcome::Activated);
    }

    #[test]
    fn the_gone_are_not_waited_for() {
        let mut fleet = fleet().with("gone", 1, 1);
        fleet.streams.clear();
        assert_eq!(fleet.outcome(5), Outcome::Activated);
    }

    #[test]
    fn envoys_and_grpc_clients_are_waited_for_until_they_ack() {
        let mut fleet = fleet();
        fleet.enter("envoy", StreamKind::Xds, false).acked(acked(4));
        let told = fleet.told(5);
        assert_eq!((told.total, told.clients, told.activated, told.done), (1, 1, 0, false));
        assert_eq!(told.missing, ["envoy"]);
        fleet.streams[0].acked(acked(5));
        let told = fleet.told(5);
        assert_eq!((told.accepted, told.activated), (1, 1));
        assert_eq!(told.outcome(), Outcome::Activated);
    }

    #[test]
    fn a_sidecar_that_has_not_reported_yet_is_waited_for() {
        let mut fleet = fleet();
        fleet.enter("envoy", StreamKind::Xds, false).acked(acked(5));
        assert_eq!(fleet.outcome(5), Outcome::Activated);
        fleet.enter("chat", StreamKind::Xds, true).acked(acked(5));
        let early = fleet.told(5);
        assert_eq!((early.total, early.accepted, early.activated), (2, 2, 1));
        assert_eq!((early.missing.as_slice(), early.done), (&["chat".to_owned()][..], false));
        assert_eq!(fleet.with("chat", 5, 5).outcome(5), Outcome::Activated);
    }

    #[test]
    fn what_the_control_plane_cannot_send_ends_the_wait() {
        let fleet = fleet().with("a", 4, 4);
        let held = Rejection {
            type_url: type_urls::ROUTE.to_owned(),
            resource: "outbound".to_owned(),
            field_path: String::new(),
            reason: "it has 5 bytes".into(),
            revision: Revision(5),
        };
        let held = Refused::held_back(held, Revision(4));
        fleet.fleet.hold_back(Gate::Compiler, vec![held]);
        let told = fleet.told(5);
        assert_eq!((told.done, told.outcome()), (true, Outcome::Rejected));
        assert_eq!(told.rejecting[0].node_id, "");
        assert_eq!(told.rejecting[0].rejection.as_ref().unwrap().reason, "it has 5 bytes");
    }

    #[test]
    fn an_empty_fleet_does_not_activate_what_is_not_committed() {
        assert_eq!(fleet().outcome(5), Outcome::Activated);
        assert_eq!(fleet().outcome(4), Outcome::Unspecified);
    }

    #[test]
    fn nobody_speaks_for_those_who_may_be_on_their_way() {
        let connected = fleet().with("a", 5, 5);
        connected.fleet.hears_nothing();
        let told = connected.told(5);
        assert_eq!((told.activated, told.total, told.done), (1, 1, false));
        assert!(told.unsettled.contains("does not hear of the others"), "{}", told.unsettled);
        connected.fleet.hears(vec![]);
        assert_eq!(connected.outcome(5), Outcome::Activated);
        // A refusal is one, whoever else there is.
        let refusing = connected.refusing("b", 4, 4, 5);
        refusing.fleet.hears_nothing();
        assert_eq!(refusing.outcome(5), Outcome::Rejected);
    }

    #[test]
    fn a_refusal_of_this_revision_ends_the_wait() {
        assert_eq!(fleet().refusing("a", 4, 4, 5).outcome(5), Outcome::Rejected);
        let activated_but_refusing_a_part = fleet().refusing("a", 4, 5, 5);
        assert_eq!(activated_but_refusing_a_part.outcome(5), Outcome::Rejected);
        let progress = fleet().refusing("a", 4, 4, 5).told(5);
        let told = progress.rejecting[0].rejection.clone().unwrap();
        assert_eq!((told.r#type.as_str(), told.resource.as_str()), ("Cluster", "default/chat/v2"));
    }

    #[test]
    fn when_the_time_is_over_older_refusals_explain_it() {
        let connected = fleet().refusing("a", 4, 4, 3).refusing("b", 5, 5, 3);
        let named: Vec<String> = rejecting(connected.fleet.in_the_way(Revision(5)))
            .into_iter()
            .map(|one| one.node_id)
            .collect();
        assert_eq!(named, ["a"]);
    }

    #[test]
    fn a_refusal_of_another_revision_counts_only_where_it_stands_in_the_way() {
        assert_eq!(fleet().refusing("a", 5, 5, 6).outcome(6), Outcome::Activated);
        assert_eq!(fleet().refusing("a", 4, 4, 6).outcome(6), Outcome::Rejected);
        assert_eq!(fleet().refusing("a", 4, 4, 3).outcome(5), Outcome::Unspecified);
    }
}
