//! Sessions, as far as Envoy keeps them itself: its filter `stateful_session` leads the requests of a
//! session to the endpoint that had the first one.
//!
//! It chooses among the endpoints of the cluster that the split has chosen, so that it binds to a
//! version only as long as the split does. It is never `strict`: a session whose endpoint is in
//! another version would then fail instead of moving.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::stateful_session_per_route::Override;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::{
    StatefulSession, StatefulSessionPerRoute,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use envoy_types::pb::envoy::extensions::http::stateful_session::envelope::v3::EnvelopeSessionState;
use envoy_types::pb::envoy::extensions::http::stateful_session::envelope::v3::envelope_session_state::Header;
use envoy_types::pb::envoy::r#type::http::v3::{Cookie, CookieAttribute};
use envoy_types::pb::google::protobuf::Any;
use segue_shared::extension::pack;
use segue_shared::ids::ServiceName;

use super::NodeKind;
use super::extension::duration;
use crate::config::mesh::{MeshConfig, Pin, Protocol, Service, SessionKey};

const FILTER: &str = "envoy.filters.http.stateful_session";
/// The header in which servers of the Model Context Protocol issue ids of sessions.
const MCP_SESSION: &str = "mcp-session-id";

/// The filter, which keeps nothing by itself.
pub(super) fn filter() -> HttpFilter {
    HttpFilter {
        name: FILTER.to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack(&StatefulSession::default()))),
        ..HttpFilter::default()
    }
}

/// What Envoy keeps of the sessions of a service, under the name of the filter. `None` where nothing
/// is pinned, and for ids that clients choose: Envoy would need them changed.
pub(super) fn kept(
    config: &MeshConfig,
    service: &Service,
    kind: NodeKind,
) -> Option<(String, Any)> {
    let NodeKind::Envoy { .. } = kind else { return None };
    let sessions = config.sessions.get(&service.name)?;
    let pin = sessions.pin.as_ref()?;
    let is_mcp = service.protocol == Protocol::Mcp || sessions.keys.contains(&SessionKey::Mcp);
    let has_cookie = sessions.keys.iter().any(|key| matches!(key, SessionKey::Cookie(_)));
    let session_state = if is_mcp {
        envelope()
    } else if has_cookie {
        cookie(&service.name, pin)
    } else {
        return None;
    };
    let session =
        StatefulSession { session_state: Some(session_state), ..StatefulSession::default() };
    let config = StatefulSessionPerRoute { r#override: Some(Override::StatefulSession(session)) };
    Some((FILTER.to_owned(), pack(&config)))
}

/// The endpoint goes into the id that the server issues, and out of it again.
fn envelope() -> TypedExtensionConfig {
    let header = Some(Header { name: MCP_SESSION.to_owned() });
    TypedExtensionConfig {
        name: "envoy.http.stateful_session.envelope".to_owned(),
        typed_config: Some(pack(&EnvelopeSessionState { header })),
    }
}

/// The endpoint goes into a cookie of its own beside that of the application.
fn cookie(service: &ServiceName, pin: &Pin) -> TypedExtensionConfig {
    let attribute = |name: &str, value: &str| CookieAttribute {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let cookie = Cookie {
        name: format!("segue-{}.{}", service.name, service.namespace),
        ttl: Some(duration(pin.max_age)),
        path: "/".to_owned(),
        // Not `Secure`: the listener speaks plain HTTP, over which it would never come back.
        attributes: vec![attribute("HttpOnly", ""), attribute("SameSite", "Lax")],
    };
    TypedExtensionConfig {
        name: "envoy.http.stateful_session.cookie".to_owned(),
        typed_config: Some(pack(&CookieBasedSessionState { cookie: Some(cookie) })),
    }
}
