//! The one task that follows the control plane: keeps a stream, turns what comes into snapshots, has
//! them activated and saved.

mod restore;

use std::future::{Future, pending};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use segue_shared::backoff::Backoff;
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use segue_sidecar_core::reject::Reject;
use segue_sidecar_core::snapshot::CompiledSnapshot;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};

use super::inbox::{Inbox, Linked, Linking, Lower, Marks, StoredResources};
use super::saving::Saver;
use super::settings::{XdsProtocol, XdsSettings, XdsStatus};
use super::transport::{Stream, node};
use super::view::{Questions, XdsView};
use crate::activate::{DeliveryState, Warm, activate, warm_deadline};
use crate::dns::{Names, Resolved, Resolver};
use crate::snapshot_handle::SnapshotHandle;

/// Time for a first answer, which tells who answers; then all is asked for as of a control plane of
/// other make.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for a mark of a control plane that sent marks before this process began.
const REMEMBERED_MARK_TIMEOUT: Duration = Duration::from_secs(15);

/// What the task tells others.
pub(super) struct Told {
    pub delivery: watch::Sender<DeliveryState>,
    pub status: watch::Sender<XdsStatus>,
    pub following: watch::Sender<usize>,
}

/// State of the task. It is the one writer of the handle and of what it tells.
pub struct Follower<W> {
    settings: XdsSettings,
    handle: SnapshotHandle,
    warm: Arc<W>,
    told: Told,
    questions: Questions,
    inbox: Inbox,
    activation: Option<Activation>,
    /// When a control plane without a mark is taken for one that sends none.
    mark_deadline: Option<Instant>,
    /// When what is waited for is taken for absent.
    resource_deadline: Option<Instant>,
    saver: Saver,
    names: Names<Resolver>,
    /// Control planes gone on to without a pause, since the last pause.
    moves: usize,
    /// Whether to ask for types of our own: some foreign control planes end the stream for it.
    ask_own: bool,
}

/// A snapshot on its way to be swapped in.
struct Activation {
    swap: Pin<Box<dyn Future<Output = ()> + Send>>,
    deadline: Instant,
    /// What counts as activated with it.
    revision: Option<Revision>,
    resources: Option<StoredResources>,
}

/// What the task woke for.
enum Wake {
    Drain,
    Swapped,
    NoMark,
    Overdue,
    Saved,
    Resolved(Resolved),
    Asked(oneshot::Sender<XdsView>),
}

/// Why a stream is over.
struct Ended {
    status: Status,
    /// Whether the control plane had answered on it.
    answered: bool,
}

impl<W: Warm> Follower<W> {
    pub(super) fn new(
        settings: XdsSettings,
        handle: SnapshotHandle,
        warm: W,
        told: Told,
        questions: Questions,
    ) -> Self {
        let mut inbox = Inbox::default();
        inbox.follow_one_of(settings.control_planes.urls.len());
        inbox.ask_for_authorities(settings.takes_authorities);
        inbox.stand_at(settings.locality.clone(), &settings.service);
        Self {
            questions,
            saver: Saver::new(settings.data_dir.clone()),
            names: Names::new(Resolver::new(&settings.dns), draw),
            settings,
            handle,
            warm: Arc::new(warm),
            told,
            inbox,
            activation: None,
            mark_deadline: None,
            resource_deadline: None,
            moves: 0,
            ask_own: true,
        }
    }

    /// Runs until the drain signal.
    pub async fn run(mut self, drain: DrainSignal) {
        let mut backoff = Backoff::default();
        while let Some(ended) = self.follow(&drain, &mut backoff).await {
            self.inbox.stream_ended();
            self.stream_ended(&ended.status);
            let again = Instant::now() + self.go_on(&ended, &mut backoff);
            let drained = loop {
                tokio::select! {
                    () = sleep_until(again) => break false,
                    wake = self.wake(&drain) => if self.on_wake(wake) { break true },
                }
            };
            if drained {
                break;
            }
        }
        self.saver.finish().await;
    }

    /// Chooses the next control plane, and says how long to wait before it is tried. One that
    /// answered and then went away, as for its own restart, is left at once; but where all of them do
    /// so, or none can be reached, there is a pause before the next.
    fn go_on(&mut self, ended: &Ended, backoff: &mut Backoff) -> Duration {
        let others = self.settings.control_planes.urls.len().saturating_sub(1);
        if others > 0 {
            self.told.following.send_modify(|place| *place = (*place + 1) % (others + 1));
        }
        if ended.answered && ended.status.code() == Code::Unavailable && self.moves < others {
            self.moves += 1;
            return Duration::ZERO;
        }
        self.moves = 0;
        backoff.next_pause(draw())
    }

    /// One stream, from its opening to its end. `None`: drained.
    async fn follow(&mut self, drain: &DrainSignal, backoff: &mut Backoff) -> Option<Ended> {
        let mut answered = false;
        let status = self.stream(drain, backoff, &mut answered).await?;
        Some(Ended { status, answered })
    }

    async fn stream(
        &mut self,
        drain: &DrainSignal,
        backoff: &mut Backoff,
        answered: &mut bool,
    ) -> Option<Status> {
        let planes = self.settings.control_planes.clone();
        let place = *self.told.following.borrow();
        self.told.status.send_modify(|status| {
            status.streams += 1;
            status.control_plane = planes.urls.get(place).cloned().unwrap_or_default();
        });
        let dialing = planes.dial(place);
        tokio::pin!(dialing);
        let plane = loop {
            tokio::select! {
                dialed = &mut dialing => match dialed {
                    Ok(plane) => break plane,
                    Err(error) => return Some(Status::failed_precondition(error.to_string())),
                },
                wake = self.wake(drain) => if self.on_wake(wake) { return None },
            }
        };
        self.inbox.imply_removal(self.settings.protocol == XdsProtocol::Sotw);
        let opening = Stream::open(plane, &self.settings, &self.inbox, self.ask_own);
        tokio::pin!(opening);
        let mut stream = loop {
            tokio::select! {
                opened = &mut opening => match opened {
                    Ok(stream) => break stream,
                    Err(status) => return Some(status),
                },
                wake = self.wake(drain) => if self.on_wake(wake) { return None },
            }
        };
        let mut first_answer = Some(Instant::now() + FIRST_ANSWER_TIMEOUT);
        loop {
            tokio::select! {
                response = stream.next() => {
                    first_answer = None;
                    let response = match response {
                        Ok(response) => response,
                        Err(status) => return Some(status),
                    };
                    *answered = true;
                    backoff.reset();
                    self.connected();
                    self.inbox.tell_time(SystemTime::now());
                    match stream.take(response, &mut self.inbox, &planes.mesh).await {
                        Ok(rejects) => self.refused(&rejects),
                        Err(status) => return Some(status),
                    }
                    if let Some(status) = self.lower_mark() {
                        return Some(status);
                    }
                    self.link();
                }
                () = at(first_answer) => {
                    first_answer = None;
                    if let Err(status) = stream.unanswered(&mut self.inbox).await {
                        return Some(status);
                    }
                }
                wake = self.wake(drain) => if self.on_wake(wake) { return None },
            }
        }
    }

    /// Waits for what is not the stream. May be dropped and called again.
    async fn wake(&mut self, drain: &DrainSignal) -> Wake {
        let swap = async {
            match &mut self.activation {
                Some(activation) => activation.swap.as_mut().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = drain.cancelled() => Wake::Drain,
            () = swap => Wake::Swapped,
            () = at(self.mark_deadline) => Wake::NoMark,
            () = at(self.resource_deadline) => Wake::Overdue,
            () = self.saver.step() => Wake::Saved,
            resolved = self.names.step() => Wake::Resolved(resolved),
            Some(reply) = self.questions.recv() => Wake::Asked(reply),
        }
    }

    /// Does what it woke for; whether the process drains.
    fn on_wake(&mut self, wake: Wake) -> bool {
        match wake {
            Wake::Drain => return true,
            Wake::Swapped => self.swapped(),
            Wake::NoMark => {
                self.mark_deadline = None;
                tracing::info!(
                    "no snapshot marks from this control plane: what links is activated"
                );
                self.inbox.expect_no_marks();
                self.link();
            }
            Wake::Overdue => self.overdue(),
            Wake::Saved => {}
            Wake::Resolved(resolved) => {
                self.take_addresses(resolved);
                self.link();
            }
            Wake::Asked(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(XdsView::new(node(&self.settings), &self.inbox));
            }
        }
        false
    }

    /// Begins to activate what links, and tells what is refused and what is waited for.
    fn link(&mut self) {
        self.names.follow(&self.inbox.wanted_names());
        let linking = self.inbox.link();
        let rejections = self.inbox.rejections();
        let mut waiting_for = Vec::new();
        let mut accepted = None;
        match linking {
            Linking::Idle => {
                waiting_for.clone_from(&self.told.delivery.borrow().waiting_for);
            }
            Linking::Waiting(missing) => {
                tracing::info!(?missing, "a snapshot waits for resources");
                if !self.inbox.is_overdue() {
                    let patience = self.settings.resource_timeout;
                    self.resource_deadline.get_or_insert_with(|| Instant::now() + patience);
                }
                waiting_for = missing;
            }
            Linking::Unmarked => {
                let patience = match self.inbox.marks() {
                    Marks::Remembered => REMEMBERED_MARK_TIMEOUT,
                    _ => self.settings.mark_timeout,
                };
                self.mark_deadline.get_or_insert_with(|| Instant::now() + patience);
            }
            Linking::Ready(linked) => {
                let Linked { snapshot, clean, held_by } = *linked;
                self.mark_deadline = None;
                if held_by.is_empty() {
                    self.resource_deadline = None;
                }
                accepted = snapshot.revision.filter(|_| clean);
                self.begin(snapshot, accepted, held_by.is_empty());
                waiting_for = held_by;
            }
        }
        self.told.delivery.send_if_modified(|state| {
            let next = DeliveryState {
                accepted_revision: accepted.unwrap_or(state.accepted_revision),
                activated_revision: state.activated_revision,
                rejections,
                waiting_for,
            };
            let changed = *state != next;
            *state = next;
            changed
        });
    }

    /// Warms and swaps beside the stream, in place of what was under way. Only what links as a whole
    /// is for the disk: a restart has nothing else to serve from.
    fn begin(&mut self, snapshot: CompiledSnapshot, revision: Option<Revision>, whole: bool) {
        let before = self.activation.take();
        let deadline = before.as_ref().map_or_else(warm_deadline, |before| before.deadline);
        let (due, unsaved) = before.map_or((None, None), |it| (it.revision, it.resources));
        let (handle, warm) = (self.handle.clone(), Arc::clone(&self.warm));
        let swap = async move { activate(&handle, &*warm, snapshot, deadline).await };
        let resources =
            if whole && self.saver.saves() { Some(self.inbox.stored()) } else { unsaved };
        // What was accepted and is overtaken while it warms runs as a part of what overtook it.
        let revision = revision.or(due);
        self.activation = Some(Activation { swap: Box::pin(swap), deadline, revision, resources });
    }

    fn swapped(&mut self) {
        let Some(activation) = self.activation.take() else { return };
        if let Some(revision) = activation.revision {
            self.told.delivery.send_modify(|state| state.activated_revision = revision);
        }
        if let Some(resources) = activation.resources {
            self.saver.save(resources);
        }
        self.told.status.send_modify(|status| status.has_snapshot = true);
    }

    /// Whether this control plane is behind what runs here; then the next one is asked. Where none
    /// of them has more, its mark is taken the next time.
    fn lower_mark(&mut self) -> Option<Status> {
        let Lower { offered, running, first } = self.inbox.lower_mark()?;
        // What came since is not to be activated without a mark.
        self.mark_deadline = None;
        if first {
            let url = self.told.status.borrow().control_plane.clone();
            tracing::warn!(
                %offered, %running, url,
                "this control plane is behind what runs here: asking the next one"
            );
        }
        self.told.status.send_modify(|status| status.lower_marks += 1);
        Some(Status::unavailable(format!(
            "it offers revision {offered}, and requests run on {running} already"
        )))
    }

    fn connected(&mut self) {
        self.told.status.send_if_modified(|status| {
            let news = !status.connected;
            status.connected = true;
            status.last_error = None;
            status.last_update = Some(std::time::Instant::now());
            news
        });
    }

    fn refused(&self, rejects: &[Reject]) {
        for reject in rejects {
            tracing::warn!(%reject, "resource refused; its last good version stays");
        }
        if !rejects.is_empty() {
            let count = rejects.len() as u64;
            self.told.status.send_modify(|status| status.rejections += count);
        }
    }

    /// What is waited for does not come: all else goes on.
    fn overdue(&mut self) {
        self.resource_deadline = None;
        let missing = self.told.delivery.borrow().waiting_for.clone();
        tracing::warn!(
            ?missing,
            patience = ?self.settings.resource_timeout,
            "these do not come; what names them stays as it was, all else goes on"
        );
        let count = missing.len() as u64;
        self.told.status.send_modify(|status| status.resource_timeouts += count);
        self.inbox.wait_no_longer();
        self.link();
    }

    fn stream_ended(&mut self, reason: &Status) {
        let url = self.told.status.borrow().control_plane.clone();
        tracing::warn!(code = ?reason.code(), reason = reason.message(), url, "no control plane");
        let refused =
            matches!(reason.code(), Code::InvalidArgument | Code::Unimplemented | Code::NotFound);
        if refused && self.inbox.marks() == Marks::Unknown {
            self.ask_own = !self.ask_own;
        }
        self.told.status.send_modify(|status| {
            status.connected = false;
            status.last_error = Some(format!("{:?}: {}", reason.code(), reason.message()));
        });
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Uniform in 0.0..1.0; each `RandomState` has new keys.
fn draw() -> f64 {
    RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64
}
