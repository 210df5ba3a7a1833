//! Faults made on purpose: Envoy's filter `fault`, which does nothing where no service asks for it.

use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::google::protobuf::Any;
use segue_shared::extension::{pack_as, type_url};
use segue_shared::ids::ServiceName;
use segue_shared::xds_names::FAULT_FILTER;

use super::extension::duration;
use crate::config::mesh::MeshConfig;

const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

/// The filter, which makes no fault by itself.
pub(super) fn filter() -> HttpFilter {
    HttpFilter {
        name: FAULT_FILTER.to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_as(
            &type_url(FAULT),
            &HttpFault::default(),
        ))),
        ..HttpFilter::default()
    }
}

/// The faults of a service, under the name of the filter.
pub(super) fn made(config: &MeshConfig, service: &ServiceName) -> Option<(String, Any)> {
    let faults = config.faults.get(service)?;
    let fault = HttpFault {
        delay: faults.delay.as_ref().map(|delay| FaultDelay {
            percentage: Some(percentage(delay.share)),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(duration(delay.time))),
        }),
        abort: faults.abort.as_ref().map(|abort| FaultAbort {
            percentage: Some(percentage(abort.share)),
            error_type: Some(ErrorType::HttpStatus(u32::from(abort.status))),
            ..FaultAbort::default()
        }),
        ..HttpFault::default()
    };
    Some((FAULT_FILTER.to_owned(), pack_as(&type_url(FAULT), &fault)))
}

fn percentage(share: u16) -> FractionalPercent {
    FractionalPercent {
        numerator: u32::from(share),
        denominator: DenominatorType::TenThousand as i32,
    }
}
