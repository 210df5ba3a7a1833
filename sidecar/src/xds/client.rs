//! The one task that follows the control plane: keeps a stream, turns what comes into snapshots, has
//! them activated and saved.

use std::future::{Future, pending};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use segue_shared::backoff::Backoff;
use segue_shared::ids::Revision;
use segue_shared::shutdown::DrainSignal;
use segue_sidecar_core::snapshot::CompiledSnapshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};

use super::inbox::{Inbox, Linked, Linking, Marks, Stored, StoredResources};
use super::settings::{XdsProtocol, XdsSettings, XdsStatus};
use super::transport::{Stream, channel};
use crate::activate::{DeliveryState, Warm, activate, warm_deadline};
use crate::snapshot_file::{self, Saved, SavedResource, SnapshotFileError};
use crate::snapshot_handle::SnapshotHandle;

/// Least time between two writes of the snapshot file.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Time for a first answer, which tells who answers; then all is asked for as of a control plane of
/// other make.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for a mark of a control plane that sent marks before this process began.
const REMEMBERED_MARK_TIMEOUT: Duration = Duration::from_secs(15);

/// The running client.
pub struct XdsClient {
    /// For the report stream.
    pub delivery: watch::Receiver<DeliveryState>,
    /// For readiness and the admin endpoint.
    pub status: watch::Receiver<XdsStatus>,
    /// Ends after the drain signal, with the last good resources on disk.
    pub join: JoinHandle<()>,
}

/// Activates the last good snapshot on disk, where there is one, then begins to follow the control
/// plane on the current runtime.
pub async fn spawn(
    settings: XdsSettings,
    handle: SnapshotHandle,
    warm: impl Warm,
    drain: DrainSignal,
) -> XdsClient {
    let (delivery_sender, delivery) = watch::channel(DeliveryState::default());
    let (status_sender, status) = watch::channel(XdsStatus::default());
    let mut follower = Follower::new(settings, handle, warm, delivery_sender, status_sender);
    follower.restore().await;
    let join = tokio::spawn(follower.run(drain));
    XdsClient { delivery, status, join }
}

/// State of the task. It is the one writer of handle, delivery and status.
struct Follower<W> {
    settings: XdsSettings,
    handle: SnapshotHandle,
    warm: Arc<W>,
    delivery: watch::Sender<DeliveryState>,
    status: watch::Sender<XdsStatus>,
    inbox: Inbox,
    activation: Option<Activation>,
    /// When a control plane without a mark is taken for one that sends none.
    mark_deadline: Option<Instant>,
    /// Resources of the running snapshot that the disk does not have yet.
    unsaved: Option<StoredResources>,
    next_save: Instant,
    /// Whether to ask for marks: some foreign control planes end the stream for it.
    ask_marks: bool,
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
    Save,
}

impl<W: Warm> Follower<W> {
    fn new(
        settings: XdsSettings,
        handle: SnapshotHandle,
        warm: W,
        delivery: watch::Sender<DeliveryState>,
        status: watch::Sender<XdsStatus>,
    ) -> Self {
        Self {
            settings,
            handle,
            warm: Arc::new(warm),
            delivery,
            status,
            inbox: Inbox::default(),
            activation: None,
            mark_deadline: None,
            unsaved: None,
            next_save: Instant::now(),
            ask_marks: true,
        }
    }

    /// Runs until the drain signal.
    async fn run(mut self, drain: DrainSignal) {
        let channel = match channel(&self.settings) {
            Ok(channel) => channel,
            Err(error) => {
                let url = &self.settings.control_plane;
                tracing::error!(%error, url, "the control plane's address is no URL");
                self.status.send_modify(|status| status.last_error = Some(error.to_string()));
                drain.cancelled().await;
                return;
            }
        };
        let mut backoff = Backoff::default();
        loop {
            let ended = self.follow(channel.clone(), &drain, &mut backoff).await;
            let Some(reason) = ended else { break };
            self.stream_ended(&reason);
            let pause = backoff.next_pause(draw());
            let again = sleep_until(Instant::now() + pause);
            tokio::pin!(again);
            let drained = loop {
                tokio::select! {
                    () = &mut again => break false,
                    wake = self.wake(&drain) => if self.on_wake(wake).await { break true },
                }
            };
            if drained {
                break;
            }
        }
        self.save().await;
    }

    /// One stream, from its opening to its end, whose reason is given. `None`: drained.
    async fn follow(
        &mut self,
        channel: tonic::transport::Channel,
        drain: &DrainSignal,
        backoff: &mut Backoff,
    ) -> Option<Status> {
        self.status.send_modify(|status| status.streams += 1);
        self.inbox.imply_removal(self.settings.protocol == XdsProtocol::Sotw);
        let opening = Stream::open(channel, &self.settings, &self.inbox, self.ask_marks);
        tokio::pin!(opening);
        let mut stream = loop {
            tokio::select! {
                opened = &mut opening => match opened {
                    Ok(stream) => break stream,
                    Err(status) => return Some(status),
                },
                wake = self.wake(drain) => if self.on_wake(wake).await { return None },
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
                    backoff.reset();
                    self.connected();
                    match stream.take(response, &mut self.inbox).await {
                        Ok(rejects) => for reject in rejects {
                            tracing::warn!(%reject, "resource refused; its last good version stays");
                        },
                        Err(status) => return Some(status),
                    }
                    self.link();
                }
                () = at(first_answer) => {
                    first_answer = None;
                    if let Err(status) = stream.unanswered(&mut self.inbox).await {
                        return Some(status);
                    }
                }
                wake = self.wake(drain) => if self.on_wake(wake).await { return None },
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
        let save_at = self.unsaved.as_ref().map(|_| self.next_save);
        tokio::select! {
            biased;
            () = drain.cancelled() => Wake::Drain,
            () = swap => Wake::Swapped,
            () = at(self.mark_deadline) => Wake::NoMark,
            () = at(save_at) => Wake::Save,
        }
    }

    /// Does what it woke for; whether the process drains.
    async fn on_wake(&mut self, wake: Wake) -> bool {
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
            Wake::Save => self.save().await,
        }
        false
    }

    /// Begins to activate what links, and tells what is refused and what is waited for.
    fn link(&mut self) {
        let linking = self.inbox.link();
        let rejections = self.inbox.rejections();
        let mut waiting_for = Vec::new();
        let mut accepted = None;
        match linking {
            Linking::Idle => {
                waiting_for.clone_from(&self.delivery.borrow().waiting_for);
            }
            Linking::Waiting(missing) => {
                tracing::info!(?missing, "a snapshot waits for resources");
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
                accepted = snapshot.revision.filter(|_| clean);
                self.begin(snapshot, accepted, held_by.is_empty());
                waiting_for = held_by;
            }
        }
        self.delivery.send_if_modified(|state| {
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
        let resources = match &self.settings.data_dir {
            Some(_) if whole => Some(self.inbox.stored()),
            _ => unsaved,
        };
        // What was accepted and is overtaken while it warms runs as a part of what overtook it.
        let revision = revision.or(due);
        self.activation = Some(Activation { swap: Box::pin(swap), deadline, revision, resources });
    }

    fn swapped(&mut self) {
        let Some(activation) = self.activation.take() else { return };
        if let Some(revision) = activation.revision {
            self.delivery.send_modify(|state| state.activated_revision = revision);
        }
        if activation.resources.is_some() {
            self.unsaved = activation.resources;
        }
        self.status.send_modify(|status| status.has_snapshot = true);
    }

    fn connected(&mut self) {
        self.status.send_if_modified(|status| {
            let news = !status.connected;
            status.connected = true;
            status.last_error = None;
            news
        });
    }

    fn stream_ended(&mut self, reason: &Status) {
        tracing::warn!(code = ?reason.code(), reason = reason.message(), "no control plane");
        let refused =
            matches!(reason.code(), Code::InvalidArgument | Code::Unimplemented | Code::NotFound);
        if refused && self.inbox.marks() == Marks::Unknown {
            self.ask_marks = !self.ask_marks;
        }
        self.status.send_modify(|status| {
            status.connected = false;
            status.last_error = Some(format!("{:?}: {}", reason.code(), reason.message()));
        });
    }

    /// Activates what the disk holds. Nothing else can serve yet, so nothing is warmed.
    async fn restore(&mut self) {
        let Some(data_dir) = self.settings.data_dir.clone() else { return };
        let read = move || snapshot_file::load(&data_dir);
        let saved = match blocking(read).await {
            Some(Ok(Some(saved))) => saved,
            Some(Ok(None)) | None => return,
            Some(Err(error)) => return tracing::error!(%error, "no last good snapshot"),
        };
        let resources = saved.resources.into_iter().map(|resource| {
            let SavedResource { type_url, name, version, value } = resource;
            (type_url, name, Stored { version, bytes: value.into() })
        });
        let Some(snapshot) = self.inbox.restore(resources.collect()) else { return };
        let revision = snapshot.revision;
        activate(&self.handle, &(), snapshot, warm_deadline()).await;
        tracing::info!(revision = revision.map(|it| it.0), "the last good snapshot serves");
        self.status.send_modify(|status| status.has_snapshot = true);
        if let Some(revision) = revision {
            self.delivery.send_modify(|state| {
                state.accepted_revision = revision;
                state.activated_revision = revision;
            });
        }
    }

    /// Writes what is not on the disk yet.
    async fn save(&mut self) {
        let (Some(resources), Some(data_dir)) =
            (self.unsaved.take(), self.settings.data_dir.clone())
        else {
            return;
        };
        self.next_save = Instant::now() + SAVE_EVERY;
        let write = move || snapshot_file::store(&data_dir, &saved(&resources));
        if let Some(Err(error)) = blocking::<Result<(), SnapshotFileError>>(write).await {
            tracing::error!(%error, "the last good snapshot is not saved");
        }
    }
}

fn saved(resources: &StoredResources) -> Saved {
    let all = resources.iter().flat_map(|(type_url, of_type)| {
        of_type.iter().map(|(name, stored)| SavedResource {
            type_url: (*type_url).to_owned(),
            name: name.clone(),
            version: stored.version.clone(),
            value: stored.bytes.to_vec(),
        })
    });
    Saved { resources: all.collect() }
}

/// Work on the disk, off this runtime's thread. `None` where it panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => {
            tracing::error!(%error, "work on the snapshot file broke off");
            None
        }
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
