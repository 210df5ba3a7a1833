//! Settings of the identity.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use segue_shared::ids::ServiceName;
use segue_shared::shutdown::DrainSignal;
use segue_sidecar_core::snapshot::InboundMtls;
use tokio::task::JoinHandle;

use super::files::Files;
use super::follow::{Followed, Source, SourceError, follow, take};
use super::issued::Issued;
use crate::control_plane::ControlPlanes;
use crate::tls::Mesh;

/// Wait for a first identity before the first caller is met.
const FIRST_TIME: Duration = Duration::from_secs(10);

/// Who this sidecar is to the mesh.
#[derive(Clone, Debug, Args)]
pub struct IdentitySettings {
    /// Where the certificate comes from that this sidecar shows to others, and whom it believes
    #[arg(long, env = "SEGUE_IDENTITY", value_enum, default_value = "off")]
    pub identity: IdentitySource,
    /// PEM file with the certificate and those above it, the leaf first, for --identity files; read
    /// again when it changes, as the other two are
    #[arg(long, env = "SEGUE_IDENTITY_CERT", value_name = "FILE")]
    pub identity_cert: Option<PathBuf>,
    /// PEM file with the key of that certificate
    #[arg(long, env = "SEGUE_IDENTITY_KEY", value_name = "FILE")]
    pub identity_key: Option<PathBuf>,
    /// PEM file with the authorities of the mesh
    #[arg(long, env = "SEGUE_IDENTITY_BUNDLE", value_name = "FILE")]
    pub identity_bundle: Option<PathBuf>,
    /// Seconds over which sidecars spread their requests when another root of the mesh signs
    #[arg(long, env = "SEGUE_IDENTITY_SPREAD_SECONDS", default_value = "30", value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub identity_spread_seconds: u32,
    /// What callers of the application have to show where the control plane does not say
    #[arg(long, env = "SEGUE_INBOUND_MTLS", value_enum, default_value = "strict")]
    pub inbound_mtls: Demand,
}

/// Where an identity comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IdentitySource {
    /// There is none: all is plain text.
    #[default]
    Off,
    /// The control plane issues it, for a key that never leaves this process.
    ControlPlane,
    /// Files that something else keeps new, such as cert-manager.
    Files,
}

/// What callers have to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Demand {
    /// An identity of the mesh.
    #[default]
    Strict,
    /// An identity where they speak TLS; plain text is taken as well.
    Permissive,
    /// Nothing.
    Off,
}

/// What an identity begins with.
pub struct Begin {
    pub control_planes: ControlPlanes,
    pub service: ServiceName,
    pub node_id: String,
    pub mesh: Mesh,
    pub followed: Followed,
    pub draw: fn() -> f64,
}

impl IdentitySettings {
    /// What callers have to show where the control plane does not say; `None` without an identity.
    pub fn demand(&self) -> Option<InboundMtls> {
        (self.identity != IdentitySource::Off).then_some(match self.inbound_mtls {
            Demand::Strict => InboundMtls::Strict,
            Demand::Permissive => InboundMtls::Permissive,
            Demand::Off => InboundMtls::Off,
        })
    }

    /// Gets a first identity, and follows its source until `stop`. Where the control plane is away,
    /// the first one comes later; files that cannot be used are an error.
    pub async fn begin(
        &self,
        begin: Begin,
        stop: DrainSignal,
    ) -> Result<Option<JoinHandle<()>>, SourceError> {
        match self.identity {
            IdentitySource::Off => Ok(None),
            IdentitySource::ControlPlane => {
                let Begin { control_planes, service, node_id, mesh, followed, draw } = begin;
                let place = control_planes.first(&node_id);
                let issued = Issued {
                    control_planes,
                    service,
                    node_id,
                    mesh: mesh.clone(),
                    draw,
                    place,
                    spread: Duration::from_secs(u64::from(self.identity_spread_seconds)),
                    answered: 0,
                };
                let task = tokio::spawn(follow(issued, mesh.clone(), followed, draw, stop));
                // Whoever comes before it is refused, which is told; there is no harm in it.
                let _ = tokio::time::timeout(FIRST_TIME, mesh.joined()).await;
                Ok(Some(task))
            }
            IdentitySource::Files => {
                let mut files = self.files()?;
                take(&begin.mesh, files.next().await?);
                let Begin { mesh, followed, draw, .. } = begin;
                Ok(Some(tokio::spawn(follow(files, mesh, followed, draw, stop))))
            }
        }
    }

    fn files(&self) -> Result<Files, SourceError> {
        let given = |file: &Option<PathBuf>, flag: &str| {
            let missing = || SourceError::Content {
                file: flag.into(),
                reason: "--identity files needs it".into(),
            };
            file.clone().ok_or_else(missing)
        };
        Ok(Files::new(
            given(&self.identity_cert, "--identity-cert")?,
            given(&self.identity_key, "--identity-key")?,
            given(&self.identity_bundle, "--identity-bundle")?,
        ))
    }
}
