//! How the endpoints of a `Cluster` are judged: `outlier_detection`, `health_checks`, and what its
//! circuit breakers say about retries.
//!
//! | field | taken |
//! |---|---|
//! | `outlier_detection.consecutive_5xx`, `consecutive_gateway_failure`, `success_rate_*` with their `enforcing_*` | yes; enforced at 0 % is never, at any other percentage always |
//! | `interval`, `base_ejection_time`, `max_ejection_time`, `max_ejection_percent`, `always_eject_one_host` | yes |
//! | failure percentage, local origin, jitter, monitors, ejection undone by a health check | ignored: they tune |
//! | `health_checks[0]` by HTTP, gRPC, or TCP without payloads | yes; further ones and other kinds are refused |
//! | `http_health_check.expected_statuses`, `host`, `codec_client_type` | yes; `send`, `receive` and methods but GET are refused |
//! | thresholds, `interval`, `timeout` | yes; other intervals and jitter are ignored |
//! | `circuit_breakers`: `retry_budget` | `budget_percent`; `min_retry_concurrency` as repetitions a second |
//! | `circuit_breakers`: `max_retries` | where there is no budget |

use std::ops::Range;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds as Breaker;
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster as PbCluster, OutlierDetection as PbOutlier,
};
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck,
};
use envoy_types::pb::envoy::config::core::v3::{HealthCheck as PbHealthCheck, RequestMethod};
use envoy_types::pb::envoy::r#type::v3::CodecClientType;
use envoy_types::pb::google::protobuf::{Duration as PbDuration, UInt32Value};
use http::HeaderValue;
use http::uri::{Authority, PathAndQuery};

use super::field::{duration, refuse, unsupported};
use crate::health::Thresholds;
use crate::reject::Fault;
use crate::retry_budget::RetryBudget;
use crate::snapshot::{Outlier, Probe, ProbeKind, SuccessRate, Traffic};

/// How endpoints are judged, and how much may be repeated.
pub(super) fn judge(message: &PbCluster, traffic: &mut Traffic) -> Result<(), Fault> {
    if let Some(it) = &message.outlier_detection {
        traffic.outlier = Some(outlier(it).map_err(|fault| fault.under("outlier_detection"))?);
    }
    refuse(message.health_checks.len() > 1, "health_checks[1]")?;
    if let Some(it) = message.health_checks.first() {
        traffic.probe = Some(probe(it).map_err(|fault| fault.under("health_checks[0]"))?);
    }
    let breakers = message.circuit_breakers.iter().flat_map(|breakers| &breakers.thresholds);
    for (i, breaker) in breakers.enumerate().filter(|(_, breaker)| breaker.priority == 0) {
        let at = format!("circuit_breakers.thresholds[{i}]");
        retries(breaker, traffic).map_err(|fault| fault.under(&at))?;
    }
    Ok(())
}

fn retries(breaker: &Breaker, traffic: &mut Traffic) -> Result<(), Fault> {
    let Some(budget) = &breaker.retry_budget else {
        traffic.max_retries = breaker.max_retries.map(|max| max.value);
        return Ok(());
    };
    let usual = RetryBudget::default();
    let percent = match &budget.budget_percent {
        Some(percent) if !(0.0..=100.0).contains(&percent.value) => {
            return Err(Fault::at("retry_budget.budget_percent.value", "is no percentage"));
        }
        Some(percent) => percent.value.round() as u32,
        None => usual.percent,
    };
    let least = budget.min_retry_concurrency.as_ref();
    traffic.retry_budget = RetryBudget {
        percent,
        min_per_second: least.map_or(usual.min_per_second, |least| least.value),
    };
    Ok(())
}

fn outlier(message: &PbOutlier) -> Result<Outlier, Fault> {
    let usual = Outlier::default();
    let value = |it: &Option<UInt32Value>, default: u32| it.as_ref().map_or(default, |it| it.value);
    let enforced = |row: u32, enforcing: u32| if enforcing == 0 { 0 } else { row };
    let time = |field: &str, it: &Option<PbDuration>, default: Duration| match it {
        Some(it) => positive(field, it),
        None => Ok(default),
    };
    let max_ejected = value(&message.max_ejection_percent, 10);
    if max_ejected > 100 {
        return Err(Fault::at("max_ejection_percent", "is no percentage"));
    }
    let base_ejection_time =
        time("base_ejection_time", &message.base_ejection_time, usual.base_ejection_time)?;
    let rate = SuccessRate::default();
    let success_rate = (value(&message.enforcing_success_rate, 100) > 0).then(|| SuccessRate {
        min_endpoints: value(&message.success_rate_minimum_hosts, rate.min_endpoints),
        min_requests: value(&message.success_rate_request_volume, rate.min_requests),
        stdev_factor_thousandths: value(
            &message.success_rate_stdev_factor,
            rate.stdev_factor_thousandths,
        ),
    });
    Ok(Outlier {
        consecutive_errors: enforced(
            value(&message.consecutive_5xx, 5),
            value(&message.enforcing_consecutive_5xx, 100),
        ),
        consecutive_gateway_errors: enforced(
            value(&message.consecutive_gateway_failure, 5),
            value(&message.enforcing_consecutive_gateway_failure, 0),
        ),
        interval: time("interval", &message.interval, usual.interval)?,
        base_ejection_time,
        max_ejection_time: time(
            "max_ejection_time",
            &message.max_ejection_time,
            usual.max_ejection_time.max(base_ejection_time),
        )?,
        max_ejected_percent: max_ejected as u8,
        always_one: message.always_eject_one_host.as_ref().is_some_and(|it| it.value),
        success_rate,
    })
}

fn probe(message: &PbHealthCheck) -> Result<Probe, Fault> {
    let time = |field: &str, it: &Option<PbDuration>| match it {
        Some(it) => positive(field, it),
        None => Err(Fault::at(field, "must be set")),
    };
    let count = |field: &str, it: &Option<UInt32Value>| match it {
        Some(it) if it.value > 0 => Ok(it.value),
        Some(_) => Err(Fault::at(field, "must be at least 1")),
        None => Err(Fault::at(field, "must be set")),
    };
    let kind = match &message.health_checker {
        Some(HealthChecker::HttpHealthCheck(it)) => {
            http(it).map_err(|fault| fault.under("http_health_check"))?
        }
        Some(HealthChecker::GrpcHealthCheck(it)) => {
            grpc(it).map_err(|fault| fault.under("grpc_health_check"))?
        }
        Some(HealthChecker::TcpHealthCheck(it)) => {
            refuse(it.send.is_some(), "tcp_health_check.send")?;
            refuse(!it.receive.is_empty(), "tcp_health_check.receive")?;
            refuse(it.proxy_protocol_config.is_some(), "tcp_health_check.proxy_protocol_config")?;
            ProbeKind::Tcp
        }
        Some(HealthChecker::CustomHealthCheck(_)) => {
            return Err(unsupported("custom_health_check"));
        }
        None => return Err(Fault::at("http_health_check", "a kind of check must be set")),
    };
    refuse(message.alt_port.is_some(), "alt_port")?;
    Ok(Probe {
        kind,
        interval: time("interval", &message.interval)?,
        timeout: time("timeout", &message.timeout)?,
        thresholds: Thresholds {
            healthy: count("healthy_threshold", &message.healthy_threshold)?,
            unhealthy: count("unhealthy_threshold", &message.unhealthy_threshold)?,
        },
    })
}

fn http(message: &HttpHealthCheck) -> Result<ProbeKind, Fault> {
    refuse(message.send.is_some(), "send")?;
    refuse(!message.receive.is_empty(), "receive")?;
    let get = [RequestMethod::MethodUnspecified as i32, RequestMethod::Get as i32];
    refuse(!get.contains(&message.method), "method")?;
    let path = PathAndQuery::try_from(message.path.as_str())
        .ok()
        .filter(|_| message.path.starts_with('/'))
        .ok_or_else(|| Fault::at("path", format!("{:?} is no path", message.path)))?;
    let mut expected: Vec<Range<i64>> =
        message.expected_statuses.iter().map(|range| range.start..range.end).collect();
    if expected.is_empty() {
        expected.push(200..201);
    }
    let http2 = match CodecClientType::try_from(message.codec_client_type) {
        Ok(CodecClientType::Http1) => false,
        Ok(CodecClientType::Http2) => true,
        _ => return Err(unsupported("codec_client_type")),
    };
    Ok(ProbeKind::Http {
        host: host("host", &message.host)?,
        path,
        http2,
        expected: expected.into(),
    })
}

fn grpc(message: &GrpcHealthCheck) -> Result<ProbeKind, Fault> {
    Ok(ProbeKind::Grpc {
        authority: host("authority", &message.authority)?,
        service: message.service_name.as_str().into(),
    })
}

fn host(field: &str, text: &str) -> Result<Option<HeaderValue>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    Authority::try_from(text)
        .ok()
        .and_then(|_| HeaderValue::from_str(text).ok())
        .map(Some)
        .ok_or_else(|| Fault::at(field, format!("{text:?} is no host")))
}

fn positive(field: &str, value: &PbDuration) -> Result<Duration, Fault> {
    let time = duration(field, value)?;
    if time.is_zero() { Err(Fault::at(field, "must be greater than 0")) } else { Ok(time) }
}
