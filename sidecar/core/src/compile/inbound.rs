//! `segue.extension.v1.Inbound`: what the called side of a service asks of its callers.

use segue_proto::extension::v1 as pb;
use segue_proto::extension::v1::inbound::Mtls;

use crate::reject::Fault;
use crate::snapshot::InboundMtls;

/// What callers of one service have to show.
#[derive(Debug, PartialEq, Eq)]
pub struct Inbound {
    pub service: Box<str>,
    pub mtls: InboundMtls,
}

pub(crate) fn inbound(message: &pb::Inbound) -> Result<Inbound, Fault> {
    let mtls = match Mtls::try_from(message.mtls) {
        Ok(Mtls::Off) => InboundMtls::Off,
        Ok(Mtls::Permissive) => InboundMtls::Permissive,
        Ok(Mtls::Strict) => InboundMtls::Strict,
        // What a later release means by it is nothing that may be guessed.
        Ok(Mtls::Unspecified) | Err(_) => return Err(Fault::at("mtls", "is unknown")),
    };
    Ok(Inbound { service: message.service.as_str().into(), mtls })
}
