//! The gRPC API for people and their tools, `segue.admin.v1`.

mod answer;
mod backup_service;
mod certificate_service;
mod change;
mod conditions;
mod config_service;
mod csds;
mod in_flight;
mod listing;
mod server;
mod settings;
mod status_service;
mod token_service;
mod wait;
mod watch;

pub use change::Ledger;
pub use server::{Admin, AdminError};
pub use settings::Settings;
