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

/// Waits until every connected sidecar runs on `revision`; 0 is the newest.
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
        _ => format!("revision {revision}: active on {activated} of {total} sidecars"),
    }
}

fn verdict(progress: &WaitActivatedResponse) -> Result<(), CliError> {
    let reason = match progress.outcome() {
        Outcome::Activated => return Ok(()),
        Outcome::Rejected => format!("it is refused by{}", refusals(progress)),
        Outcome::Timeout | Outcome::Unspecified => {
            if progress.missing.is_empty() {
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
        // Writing into a string cannot fail.
        let _ = write!(lines, "\n  {}: {} {}", one.node_id, rejection.r#type, rejection.resource);
        if !rejection.field_path.is_empty() {
            let _ = write!(lines, ": {}", rejection.field_path);
        }
        let _ = write!(lines, ": {}", rejection.reason);
    }
    lines
}

fn line(progress: &WaitActivatedResponse) -> String {
    format!("waiting: {} ({} accepted)", told(progress), progress.accepted)
}

fn bar(revision: u64) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(format!("revision {revision}"));
    // The template is fixed, so it cannot be wrong at run time; without it the bar is plainer.
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} sidecars") {
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
