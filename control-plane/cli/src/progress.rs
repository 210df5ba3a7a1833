//! Waiting for sidecars, with a bar on a terminal and plain lines elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use segue_proto::admin::v1::wait_activated_response::Outcome;
use segue_proto::admin::v1::{WaitActivatedRequest, WaitActivatedResponse};
use tokio::time::{Instant, timeout_at};

use crate::error::CliError;
use crate::session::Session;

/// Time for the last word of a wait to arrive after it is over.
const LATE: Duration = Duration::from_secs(5);

/// Waits until every connected sidecar runs on `revision`, and every other xDS client ACKed it; 0 is
/// the newest.
pub async fn wait(
    session: &mut Session<'_>,
    revision: u64,
    timeout: Duration,
) -> Result<WaitActivatedResponse, CliError> {
    let told = prost_types::Duration::try_from(timeout)
        .map_err(|_| CliError::Usage("the timeout is too long".to_owned()))?;
    let request = WaitActivatedRequest { revision, timeout: Some(told) };
    // The control plane says when the time is over, unless it says nothing at all.
    let deadline = Instant::now() + timeout + LATE;
    let silent = |_| {
        let late = timeout + LATE;
        CliError::NotHeld(format!("the control plane did not end the wait within {late:?}"))
    };
    let mut client = session.status().await?;
    let begun = timeout_at(deadline, client.wait_activated(request)).await.map_err(silent)?;
    let mut stream = begun?.into_inner();
    let bar = session.output.is_live().then(|| bar(revision));
    let last = loop {
        let next = timeout_at(deadline, stream.message()).await.map_err(silent)?;
        let Some(progress) = next? else {
            let gone = "the control plane ended the wait without a result".to_owned();
            return Err(CliError::NotHeld(gone));
        };
        match &bar {
            Some(bar) => draw(bar, &progress),
            None if !progress.done => session.output.note(&line(&progress)),
            None => {}
        }
        if progress.done {
            break progress;
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    verdict(&last).map(|()| last)
}

/// How it ended, for people.
pub fn told(progress: &WaitActivatedResponse) -> String {
    let WaitActivatedResponse { revision, total, activated, .. } = progress;
    match total {
        0 => format!("revision {revision}: no sidecar is connected"),
        _ => format!("revision {revision}: active on {activated} of {total} {}", nodes(progress)),
    }
}

/// Who is waited for.
fn nodes(progress: &WaitActivatedResponse) -> &'static str {
    if progress.clients == 0 { "sidecars" } else { "nodes" }
}

fn verdict(progress: &WaitActivatedResponse) -> Result<(), CliError> {
    let reason = match progress.outcome() {
        Outcome::Activated => return Ok(()),
        Outcome::Rejected => format!("it is refused:{}", refusals(progress)),
        Outcome::Timeout | Outcome::Unspecified => {
            if progress.missing.is_empty() && !progress.unsettled.is_empty() {
                format!("the time is over, and {}", progress.unsettled)
            } else if progress.missing.is_empty() {
                "the time is over, and nobody has committed it".to_owned()
            } else {
                let missing = progress.missing.join(", ");
                let mut refused = String::new();
                if !progress.rejecting.is_empty() {
                    refused = format!("\nrefused and in the way:{}", refusals(progress));
                }
                format!("the time is over; missing: {missing}{refused}")
            }
        }
    };
    Err(CliError::NotHeld(format!("{}: {reason}", told(progress))))
}

/// A line for each.
fn refusals(progress: &WaitActivatedResponse) -> String {
    let mut lines = String::new();
    for one in &progress.rejecting {
        let rejection = one.rejection.clone().unwrap_or_default();
        let who = match (one.node_id.as_str(), rejection.reason.as_str()) {
            ("", "") => "a resource of another namespace",
            ("", _) => "held back by the control plane",
            (node_id, _) => node_id,
        };
        let resource = format!("{} {}", rejection.r#type, rejection.resource);
        let parts = [who, resource.trim(), &rejection.field_path, &rejection.reason];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        // Writing into a string cannot fail.
        let _ = write!(lines, "\n  {}", parts.join(": "));
    }
    lines
}

fn line(progress: &WaitActivatedResponse) -> String {
    let mut line = format!("waiting: {} ({} accepted)", told(progress), progress.accepted);
    if !progress.unsettled.is_empty() {
        let _ = write!(line, "; {}", progress.unsettled);
    }
    line
}

fn bar(revision: u64) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(format!("revision {revision}"));
    // The template is fixed, so it cannot be wrong at run time; without it the bar is plainer.
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn draw(bar: &ProgressBar, progress: &WaitActivatedResponse) {
    bar.set_length(u64::from(progress.total));
    bar.set_position(u64::from(progress.activated));
    bar.set_message(format!("revision {}", progress.revision));
}

#[cfg(test)]
mod tests {
    use segue_proto::admin::v1::RejectedResource;
    use segue_proto::admin::v1::wait_activated_response::Rejecting;

    use super::*;

    #[test]
    fn a_refusal_says_who_and_what_and_why() {
        let rejecting = |node_id: &str, r#type: &str, reason: &str| Rejecting {
            node_id: node_id.to_owned(),
            rejection: Some(RejectedResource {
                r#type: r#type.to_owned(),
                resource: if r#type.is_empty() { "" } else { "default/chat" }.to_owned(),
                reason: reason.to_owned(),
                ..RejectedResource::default()
            }),
        };
        let progress = WaitActivatedResponse {
            rejecting: vec![
                rejecting("shop-1", "Cluster", "no"),
                rejecting("", "Service", "too large"),
                rejecting("", "", "its publication broke"),
                Rejecting::default(),
            ],
            ..WaitActivatedResponse::default()
        };
        let expected = "
  shop-1: Cluster default/chat: no
  held back by the control plane: Service default/chat: too large
  held back by the control plane: its publication broke
  a resource of another namespace";
        assert_eq!(refusals(&progress), expected);
    }

    #[test]
    fn envoys_are_no_sidecars() {
        let progress = |clients| {
            let of =
                WaitActivatedResponse { revision: 7, total: 3, activated: 2, ..Default::default() };
            told(&WaitActivatedResponse { clients, ..of })
        };
        assert_eq!(progress(0), "revision 7: active on 2 of 3 sidecars");
        assert_eq!(progress(1), "revision 7: active on 2 of 3 nodes");
    }
}
