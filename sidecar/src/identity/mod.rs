//! Where the sidecar's identity comes from, and when the next one is due.

mod files;
mod follow;
mod issued;
mod settings;

pub use files::Files;
pub use follow::{Followed, Source, SourceError, follow};
pub use issued::Issued;
pub use settings::{Begin, IdentitySettings, IdentitySource};
