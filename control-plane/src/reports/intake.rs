//! What a sidecar reports: which revision it runs, and what it sent where.

use segue_proto::report::v1::{Node, ReportRequest};
use segue_shared::ids::Revision;
use tonic::Status;

use crate::fleet::{
    Delivery, Fleet, Introduction, Presence, Rejection, StreamKind, VersionTraffic,
};

/// Most refused resources that are kept of one report.
const MAX_REJECTIONS: usize = 100;
/// Most bytes that are kept of a word or a reason.
const MAX_TEXT_BYTES: usize = 1024;
/// Most versions whose counts are kept of one report.
const MAX_VERSIONS: usize = 1_000;

/// The sidecar of a report stream is here. `None` where the fleet takes in no more.
pub fn enter(
    fleet: &Fleet,
    node: Option<Node>,
    address: String,
) -> Result<Option<Presence>, Status> {
    let node = node.filter(|node| !node.id.is_empty()).ok_or_else(|| {
        Status::invalid_argument("the first report must carry `node` with a non-empty `id`")
    })?;
    let introduction = Introduction {
        node_id: node.id,
        service: node.service,
        version: node.version,
        release: node.release,
        address,
        is_sidecar: true,
    };
    Ok(fleet.enter(introduction, StreamKind::Report))
}

/// Keeps what a report says, within limits.
pub fn note(presence: Option<&Presence>, report: ReportRequest) {
    let Some(presence) = presence else { return };
    if let Some(delivery) = report.delivery {
        let rejections = delivery.rejections.into_iter().take(MAX_REJECTIONS);
        presence.delivered(Delivery {
            accepted: Revision(delivery.accepted_revision),
            activated: Revision(delivery.activated_revision),
            rejections: rejections
                .map(|rejection| Rejection {
                    type_url: cut(rejection.type_url),
                    resource: cut(rejection.resource),
                    field_path: cut(rejection.field_path),
                    reason: cut(rejection.reason).into(),
                    revision: Revision(rejection.revision),
                })
                .collect(),
        });
    }
    if !report.counts.is_empty() {
        let counts = report.counts.into_iter().take(MAX_VERSIONS);
        presence.counted(
            counts
                .map(|count| VersionTraffic {
                    service: cut(count.service),
                    version: cut(count.version),
                    requests: count.requests,
                    failures: count.failures,
                    in_flight: count.in_flight,
                    dropped: 0,
                })
                .collect(),
        );
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    text
}
