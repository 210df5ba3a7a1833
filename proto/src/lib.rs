//! The wire that is ours.
//!
//! * [`config`]: what people write (`Service`, `Route`, …). The one definition of YAML, JSON, JSON
//!   Schema and the gRPC API.
//! * [`admin`]: the gRPC API for people and their tools.
//! * [`extension`]: what Envoy's own messages cannot say, carried inside xDS.
//! * [`identity`]: how sidecars get their certificates.
//! * [`report`]: what sidecars tell the control plane.
//!
//! Envoy's messages come from the crate `envoy-types`.

/// All descriptors of this crate with comments and custom options: reflection, YAML and schemas are
/// derived from it.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Version of the configuration API, the `apiVersion` of every resource.
pub const API_VERSION: &str = "segue.dev/v1alpha1";

macro_rules! generated {
    ($(#[$doc:meta])* $module:ident, $package:literal) => {
        $(#[$doc])*
        pub mod $module {
            /// Version 1 of the package.
            #[allow(clippy::all, clippy::pedantic, missing_docs)]
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    };
}

generated!(
    /// `segue.config.v1`
    config, "segue.config.v1"
);
generated!(
    /// `segue.admin.v1`
    admin, "segue.admin.v1"
);
generated!(
    /// `segue.extension.v1`
    extension, "segue.extension.v1"
);
generated!(
    /// `segue.report.v1`
    report, "segue.report.v1"
);
generated!(
    /// `segue.identity.v1`
    identity, "segue.identity.v1"
);
