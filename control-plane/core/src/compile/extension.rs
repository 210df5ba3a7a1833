//! Small messages that several resources hold.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, ConfigSource, SelfConfigSource,
};
use envoy_types::pb::envoy::config::route::v3::FilterConfig;
use envoy_types::pb::google::protobuf::{self, Any};
use segue_proto::extension::v1::Split;
use segue_shared::extension::{pack_as, type_url};

/// "On the stream that this came on."
pub(super) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

/// "Where this came from."
pub(super) fn same_server() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Self_(SelfConfigSource::default())),
        ..ConfigSource::default()
    }
}

pub(super) fn duration(time: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
    }
}

/// A split as a filter's configuration that clients without the filter skip.
pub(super) fn optional(split: &Split) -> Any {
    let config = FilterConfig {
        config: Some(pack_as(&type_url("segue.extension.v1.Split"), split)),
        is_optional: true,
        ..FilterConfig::default()
    };
    pack_as(&type_url("envoy.config.route.v3.FilterConfig"), &config)
}
