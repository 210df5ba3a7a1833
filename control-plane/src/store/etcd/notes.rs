//! Notes of control planes for each other: one key each, held by a lease that its owner renews, so
//! that the note of one that dies goes within seconds.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Streaming;

use super::api::{self, Txn, WatchResponse};
use super::connection::{Connection, Watched};
use super::keys::Keys;
use super::{EtcdStore, Id, draw_id};
use crate::store::contract::StoreError;

/// The note of one that dies goes after this time.
const TTL_SECONDS: i64 = 10;
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Notes that are read at one time.
const MOST_NOTES: i64 = 32;

/// The note of this process.
pub struct Note {
    connection: Connection,
    id: Id,
    key: String,
    lease: Option<i64>,
    renewed: Instant,
}

/// What becomes of notes.
pub struct Notes {
    connection: Connection,
    keys: Keys,
    stream: Streaming<WatchResponse>,
    waiting: VecDeque<News>,
}

/// What became of a note.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    Written(Id, Vec<u8>),
    Gone(Id),
}

impl EtcdStore {
    /// A note that is not written yet.
    pub fn note(&self) -> Result<Note, StoreError> {
        let id = draw_id()?;
        Ok(Note {
            connection: self.inner.connection.clone(),
            id,
            key: self.inner.keys.note(id),
            lease: None,
            renewed: Instant::now(),
        })
    }

    /// All notes as they are, and what becomes of them from then on.
    pub async fn notes(&self) -> Result<(Vec<(Id, Vec<u8>)>, Notes), StoreError> {
        let (connection, keys) = (self.inner.connection.clone(), self.inner.keys.clone());
        let all = api::first_of(keys.notes(), MOST_NOTES);
        let mut reading = connection.read([all]).await?;
        let found = reading.range().into_iter();
        let found = found.filter_map(|kv| Some((keys.note_of(&kv.key)?, kv.value))).collect();
        let watching = connection.watch(keys.notes(), reading.at + 1, Watched::PutsAndDeletes);
        let stream = watching.await?;
        Ok((found, Notes { connection, keys, stream, waiting: VecDeque::new() }))
    }
}

impl Note {
    pub fn id(&self) -> Id {
        self.id
    }

    /// Writes the note anew.
    pub async fn write(&mut self, text: Vec<u8>) -> Result<(), StoreError> {
        let lease = match self.lease {
            Some(lease) => lease,
            None => self.connection.grant(TTL_SECONDS).await?,
        };
        if self.lease.replace(lease).is_none() {
            self.renewed = Instant::now();
        }
        let success = vec![api::leased(self.key.clone(), text, lease)];
        let written = self.connection.again(Txn { compare: Vec::new(), success }).await;
        if let Err(StoreError::Failed(_)) = &written {
            // Refused: its lease may be over. The next time there is a new one.
            self.lease = None;
        }
        written.map(|_| ())
    }

    /// Whether there is no such note, for all that is known.
    pub fn is_gone(&self) -> bool {
        self.lease.is_none()
    }

    /// When the note is to be renewed.
    pub fn renew_at(&self) -> Instant {
        self.renewed + RENEW_EVERY
    }

    /// Renews the note as it is; afterwards it may be gone.
    pub async fn renew(&mut self) {
        self.renewed = Instant::now();
        let Some(lease) = self.lease else { return };
        match self.connection.renew(lease).await {
            Ok(0) => self.lease = None,
            Ok(_) => {}
            Err(trouble) => tracing::debug!(?trouble, "a note is not renewed yet"),
        }
    }

    /// Takes it away.
    pub async fn remove(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.connection.revoke(lease).await;
        }
    }
}

impl Notes {
    /// What comes next; an error where nothing more will.
    pub async fn next(&mut self) -> Result<News, StoreError> {
        loop {
            if let Some(news) = self.waiting.pop_front() {
                return Ok(news);
            }
            let response = match self.stream.message().await {
                Ok(Some(response)) if !response.canceled => response,
                Ok(_) => return Err(StoreError::Unreachable("the watch was ended".to_owned())),
                Err(status) => {
                    self.connection.broken();
                    return Err(StoreError::Unreachable(status.message().to_owned()));
                }
            };
            for event in response.events {
                let gone = event.is_delete();
                let Some(kv) = event.kv else { continue };
                let Some(id) = self.keys.note_of(&kv.key) else { continue };
                self.waiting.push_back(if gone {
                    News::Gone(id)
                } else {
                    News::Written(id, kv.value)
                });
            }
        }
    }
}
