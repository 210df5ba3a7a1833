//! `HTTPFault`.
//!
//! | field | taken |
//! |---|---|
//! | `delay.fixed_delay`, `abort.http_status`, both `percentage` | yes |
//! | `max_active_faults` | yes, for each worker |
//! | delays and aborts that callers ask for, `abort.grpc_status`, `headers`, `upstream_cluster`, `downstream_nodes`, `response_rate_limit` | refused |
//! | names of runtime keys | ignored: there is no runtime |

use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use http::StatusCode;

use super::field::{duration, millionths, refuse, unsupported};
use crate::reject::Fault;
use crate::snapshot::InjectedFault;

/// Where nothing is said.
const DEFAULT_MAX_ACTIVE: u32 = 1_000;

/// `None` where it makes no fault.
pub(crate) fn injected(message: &HttpFault) -> Result<Option<InjectedFault>, Fault> {
    refuse(!message.upstream_cluster.is_empty(), "upstream_cluster")?;
    refuse(!message.headers.is_empty(), "headers")?;
    refuse(!message.downstream_nodes.is_empty(), "downstream_nodes")?;
    refuse(message.response_rate_limit.is_some(), "response_rate_limit")?;
    let delay = message.delay.as_ref().map(|delay| {
        let share = share(delay.percentage.as_ref())?;
        match &delay.fault_delay_secifier {
            Some(FaultDelaySecifier::FixedDelay(time)) => {
                Ok((duration("fixed_delay", time)?, share))
            }
            Some(FaultDelaySecifier::HeaderDelay(_)) => Err(unsupported("header_delay")),
            None => Err(Fault::at("fixed_delay", "must be set")),
        }
    });
    let abort = message.abort.as_ref().map(|abort| {
        let share = share(abort.percentage.as_ref())?;
        match &abort.error_type {
            Some(ErrorType::HttpStatus(status)) => {
                let code = u16::try_from(*status).ok().filter(|code| (200..600).contains(code));
                let code = code.and_then(|code| StatusCode::from_u16(code).ok());
                let code = code.ok_or_else(|| {
                    Fault::at("http_status", format!("is {status}, must be from 200 to 599"))
                })?;
                Ok((code, share))
            }
            Some(ErrorType::GrpcStatus(_)) => Err(unsupported("grpc_status")),
            Some(ErrorType::HeaderAbort(_)) => Err(unsupported("header_abort")),
            None => Err(Fault::at("http_status", "must be set")),
        }
    });
    let delay = delay.transpose().map_err(|fault: Fault| fault.under("delay"))?;
    let abort = abort.transpose().map_err(|fault: Fault| fault.under("abort"))?;
    let max_active = message.max_active_faults.as_ref();
    let max_active = max_active.map_or(DEFAULT_MAX_ACTIVE, |most| most.value);
    let makes_one = delay.is_some() || abort.is_some();
    Ok(makes_one.then_some(InjectedFault { delay, abort, max_active }))
}

fn share(percentage: Option<&FractionalPercent>) -> Result<u32, Fault> {
    percentage.map_or(Ok(0), |it| millionths(*it).map_err(|fault| fault.under("percentage")))
}
