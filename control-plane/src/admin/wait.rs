//! How far a revision is: pure, from the state of the fleet.

use segue_proto::admin::v1 as api;
use segue_proto::admin::v1::wait_activated_response::{Outcome, Rejecting};
use segue_shared::ids::Revision;
use segue_shared::xds_names::short_type;

use crate::fleet::{Rejection, SidecarStatus};

/// Node ids that are named as missing.
const MOST_MISSING: usize = 20;
/// Refusals that are told.
const MOST_REJECTING: usize = 50;

/// The progress of `revision` on the connected nodes, with an outcome where it is decided.
/// `newest` is what the store holds: a revision that is not committed yet is not activated by a
/// fleet of none.
pub fn progress(
    revision: Revision,
    newest: Revision,
    fleet: &[SidecarStatus],
) -> api::WaitActivatedResponse {
    let connected = || fleet.iter().filter(|node| node.connected);
    let reporting: Vec<&SidecarStatus> = connected().filter(|node| node.reports).collect();
    let count = |holds: &dyn Fn(&SidecarStatus) -> bool| {
        u32::try_from(reporting.iter().filter(|node| holds(node)).count()).unwrap_or(u32::MAX)
    };
    let total = count(&|_| true);
    let activated = count(&|node| node.activated_revision >= revision);
    let rejecting: Vec<Rejecting> = connected()
        .flat_map(|node| {
            let refused = node.rejections.iter().filter(|one| refuses(node, one, revision));
            refused.map(|one| rejecting(node, one))
        })
        .take(MOST_REJECTING)
        .collect();
    let outcome = if !rejecting.is_empty() {
        Outcome::Rejected
    } else if newest >= revision && activated == total {
        Outcome::Activated
    } else {
        Outcome::Unspecified
    };
    api::WaitActivatedResponse {
        revision: revision.0,
        total,
        accepted: count(&|node| node.accepted_revision >= revision),
        activated,
        rejecting,
        missing: reporting
            .iter()
            .filter(|node| node.activated_revision < revision)
            .map(|node| node.node_id.clone())
            .take(MOST_MISSING)
            .collect(),
        done: outcome != Outcome::Unspecified,
        outcome: outcome.into(),
    }
}

/// What stands in the way where the time is over: whatever those refuse that are not there yet, with
/// whichever revision it came.
pub fn in_the_way(revision: Revision, fleet: &[SidecarStatus]) -> Vec<Rejecting> {
    fleet
        .iter()
        .filter(|node| node.connected && node.reports && node.activated_revision < revision)
        .flat_map(|node| node.rejections.iter().map(|one| rejecting(node, one)))
        .take(MOST_REJECTING)
        .collect()
}

fn rejecting(node: &SidecarStatus, refused: &Rejection) -> Rejecting {
    Rejecting { node_id: node.node_id.clone(), rejection: Some(rejection(refused)) }
}

/// A refusal counts where the resource came with this revision, or with a later one that overtook
/// it; a node that runs on this revision may refuse later ones as it likes.
fn refuses(node: &SidecarStatus, rejection: &Rejection, revision: Revision) -> bool {
    rejection.revision == revision
        || (rejection.revision > revision && node.activated_revision < revision)
}

pub fn rejection(rejection: &Rejection) -> api::RejectedResource {
    api::RejectedResource {
        r#type: short_type(&rejection.type_url).to_owned(),
        resource: rejection.resource.clone(),
        field_path: rejection.field_path.clone(),
        reason: rejection.reason.clone(),
        revision: rejection.revision.0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use segue_shared::xds_names::type_urls;

    use super::*;
    use crate::fleet::{Acked, Delivery, Fleet, Introduction, StreamKind};

    fn sidecar(node_id: &str, accepted: u64, activated: u64) -> SidecarStatus {
        SidecarStatus {
            node_id: node_id.to_owned(),
            service: String::new(),
            version: String::new(),
            release: String::new(),
            address: String::new(),
            connected: true,
            since: UNIX_EPOCH,
            accepted_revision: Revision(accepted),
            activated_revision: Revision(activated),
            rejections: Vec::new(),
            traffic: Vec::new(),
            reports: true,
        }
    }

    fn refusing(mut sidecar: SidecarStatus, at: u64) -> SidecarStatus {
        sidecar.rejections.push(Rejection {
            type_url: type_urls::CLUSTER.to_owned(),
            resource: "default/chat/v2".to_owned(),
            field_path: String::new(),
            reason: "no".to_owned(),
            revision: Revision(at),
        });
        sidecar
    }

    fn outcome(newest: u64, fleet: &[SidecarStatus]) -> Outcome {
        progress(Revision(5), Revision(newest), fleet).outcome()
    }

    #[test]
    fn every_connected_sidecar_must_run_on_it() {
        let fleet = [sidecar("a", 5, 5), sidecar("b", 5, 4)];
        let progress = progress(Revision(5), Revision(5), &fleet);
        assert_eq!((progress.total, progress.accepted, progress.activated), (2, 2, 1));
        assert_eq!(progress.missing, ["b"]);
        assert!(!progress.done);
        assert_eq!(outcome(5, &[sidecar("a", 5, 5), sidecar("b", 6, 6)]), Outcome::Activated);
    }

    #[test]
    fn the_gone_and_the_silent_are_not_waited_for() {
        let gone = SidecarStatus { connected: false, ..sidecar("gone", 1, 1) };
        let envoy = SidecarStatus { reports: false, ..sidecar("envoy", 5, 0) };
        assert_eq!(outcome(5, &[gone, envoy]), Outcome::Activated);
    }

    #[tokio::test]
    async fn a_sidecar_that_has_not_reported_yet_is_waited_for() {
        let fleet = Fleet::new();
        let of = |node_id: &str, is_sidecar| Introduction {
            node_id: node_id.to_owned(),
            is_sidecar,
            ..Introduction::default()
        };
        let acked = Acked { accepted: Revision(5), rejections: Vec::new() };
        let envoy = fleet.enter(of("envoy", false), StreamKind::Xds).unwrap();
        envoy.acked(acked.clone());
        assert_eq!(outcome(5, &fleet.sidecars()), Outcome::Activated);
        let chat = fleet.enter(of("chat", true), StreamKind::Xds).unwrap();
        chat.acked(acked);
        let early = progress(Revision(5), Revision(5), &fleet.sidecars());
        assert_eq!((early.total, early.accepted, early.activated), (1, 1, 0));
        assert_eq!((early.missing.as_slice(), early.done), (&["chat".to_owned()][..], false));
        let report = fleet.enter(of("chat", true), StreamKind::Report).unwrap();
        report.delivered(Delivery {
            accepted: Revision(5),
            activated: Revision(5),
            rejections: Vec::new(),
        });
        assert_eq!(outcome(5, &fleet.sidecars()), Outcome::Activated);
    }

    #[test]
    fn an_empty_fleet_does_not_activate_what_is_not_committed() {
        assert_eq!(outcome(5, &[]), Outcome::Activated);
        assert_eq!(outcome(4, &[]), Outcome::Unspecified);
    }

    #[test]
    fn a_refusal_of_this_revision_ends_the_wait() {
        assert_eq!(outcome(5, &[refusing(sidecar("a", 4, 4), 5)]), Outcome::Rejected);
        let activated_but_refusing_a_part = refusing(sidecar("a", 4, 5), 5);
        assert_eq!(outcome(5, &[activated_but_refusing_a_part]), Outcome::Rejected);
        let progress = progress(Revision(5), Revision(5), &[refusing(sidecar("a", 4, 4), 5)]);
        let told = progress.rejecting[0].rejection.clone().unwrap();
        assert_eq!((told.r#type.as_str(), told.resource.as_str()), ("Cluster", "default/chat/v2"));
    }

    #[test]
    fn when_the_time_is_over_older_refusals_explain_it() {
        let fleet = [refusing(sidecar("a", 4, 4), 3), refusing(sidecar("b", 5, 5), 3)];
        let named: Vec<String> =
            in_the_way(Revision(5), &fleet).into_iter().map(|one| one.node_id).collect();
        assert_eq!(named, ["a"]);
    }

    #[test]
    fn a_refusal_of_another_revision_counts_only_where_it_stands_in_the_way() {
        assert_eq!(outcome(6, &[refusing(sidecar("a", 5, 5), 6)]), Outcome::Activated);
        assert_eq!(outcome(6, &[refusing(sidecar("a", 4, 4), 6)]), Outcome::Rejected);
        assert_eq!(outcome(5, &[refusing(sidecar("a", 4, 4), 3)]), Outcome::Unspecified);
    }
}
