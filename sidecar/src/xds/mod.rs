//! The client of the control plane: xDS v3 over ADS.

mod client;
mod delta;
mod follower;
mod inbox;
#[cfg(test)]
mod sample;
mod saving;
mod settings;
mod sotw;
mod transport;
mod view;

pub use client::{XdsClient, restore, spawn};
pub use follower::Follower;
pub use settings::{XdsProtocol, XdsSettings, XdsStatus};
pub use view::{ResourceState, ResourceView, XdsView, XdsViews};
