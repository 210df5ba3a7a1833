//! The newest configuration in memory, so that reading it costs nothing.

use std::sync::{PoisonError, RwLock};

use segue_shared::ids::Revision;
use tokio::sync::watch;

use super::contract::StoredConfiguration;

/// The newest configuration and those who wait for the next.
pub struct Current {
    configuration: RwLock<StoredConfiguration>,
    newest: watch::Sender<Revision>,
}

impl Current {
    pub fn new(configuration: StoredConfiguration) -> Self {
        let newest = watch::Sender::new(configuration.revision);
        Self { configuration: RwLock::new(configuration), newest }
    }

    /// A copy that shares everything.
    pub fn load(&self) -> StoredConfiguration {
        self.configuration.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whoever hears of a revision finds it: the configuration is there before the word of it.
    pub fn publish(&self, configuration: StoredConfiguration) {
        let revision = configuration.revision;
        *self.configuration.write().unwrap_or_else(PoisonError::into_inner) = configuration;
        self.newest.send_replace(revision);
    }

    pub fn watch(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }
}
