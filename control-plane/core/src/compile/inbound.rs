//! `Inbound`: what the called side of a service asks of its callers.

use segue_proto::extension::v1::Inbound;
use segue_proto::extension::v1::inbound::Mtls as Asked;

use crate::config::mesh::{MeshConfig, Mtls, Service};

/// `None` where nothing is declared: the sidecars' own settings say.
pub(super) fn compile(config: &MeshConfig, service: &Service) -> Option<Inbound> {
    let mtls = match config.mtls.get(&service.name)? {
        Mtls::Strict => Asked::Strict,
        Mtls::Permissive => Asked::Permissive,
        Mtls::Off => Asked::Off,
    };
    Some(Inbound { service: service.name.to_string(), mtls: mtls.into() })
}
