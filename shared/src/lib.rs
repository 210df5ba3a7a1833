//! Words that both planes of Segue need. A file enters only when both planes use it.

pub mod backoff;
pub mod bucket;
pub mod extension;
pub mod here;
pub mod ids;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod spiffe;
pub mod telemetry;
pub mod tls;
pub mod xds_names;
