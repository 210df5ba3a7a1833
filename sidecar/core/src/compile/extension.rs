//! `typed_per_filter_config`: our own extensions, and those of others that may be skipped.
//!
//! | entry | taken |
//! |---|---|
//! | `segue.split` on a route: `FilterConfig{config: segue.extension.v1.Split}`, or the bare message | yes |
//! | `HTTPFault` on a virtual host or a route, see `fault.rs` | yes; the innermost counts |
//! | any other `FilterConfig` with `is_optional` or `disabled` | skipped |
//! | anything else | refused |

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::FilterConfig;
use envoy_types::pb::google::protobuf::Any;
use http::HeaderName;
use segue_proto::extension::v1 as pb;
use segue_shared::bucket::{Salt, TOTAL};
use segue_shared::extension::unpack;
use segue_shared::xds_names::{FAULT_FILTER, SPLIT_FILTER};

use super::fault::injected;
use crate::reject::Fault;
use crate::snapshot::{InjectedFault, SplitKey};

const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";
const HTTP_FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
const SPLIT: &str = "segue.extension.v1.Split";

/// A split by names of clusters.
#[derive(Clone, Debug)]
pub(crate) struct NamedSplit {
    pub key: SplitKey,
    pub salt: Salt,
    /// End of the range and cluster, the last end is 10,000.
    pub ranges: Vec<(u16, Arc<str>)>,
}

/// What the entries of one message say.
#[derive(Debug, Default)]
pub(crate) struct FilterConfigs {
    pub split: Option<NamedSplit>,
    pub fault: SaidFault,
}

/// What one message says of faults.
#[derive(Clone, Debug, Default)]
pub(crate) enum SaidFault {
    /// Nothing: what is said further out counts.
    #[default]
    Nothing,
    /// None is made, whatever is said further out.
    None,
    Made(Arc<InjectedFault>),
}

impl SaidFault {
    /// What is made, where `outer` is said further out.
    pub fn within(self, outer: Option<&Arc<InjectedFault>>) -> Option<Arc<InjectedFault>> {
        match self {
            Self::Nothing => outer.cloned(),
            Self::None => None,
            Self::Made(fault) => Some(fault),
        }
    }
}

/// Reads the entries of one message.
pub(crate) fn filter_configs(entries: &HashMap<String, Any>) -> Result<FilterConfigs, Fault> {
    let mut all = FilterConfigs::default();
    let mut names: Vec<&String> = entries.keys().collect();
    names.sort_unstable();
    for name in names {
        let under = format!("typed_per_filter_config[{name:?}]");
        filter_config(name, &entries[name], &mut all).map_err(|fault| fault.under(&under))?;
    }
    Ok(all)
}

fn filter_config(name: &str, any: &Any, all: &mut FilterConfigs) -> Result<(), Fault> {
    let (config, optional) = if any.type_url.ends_with(FILTER_CONFIG) {
        let wrapper: FilterConfig = decode(any, FILTER_CONFIG)?;
        if wrapper.disabled {
            if name == FAULT_FILTER {
                all.fault = SaidFault::None;
            }
            return Ok(());
        }
        (wrapper.config, wrapper.is_optional)
    } else {
        (Some(any.clone()), false)
    };
    match config {
        Some(config) if name == SPLIT_FILTER && config.type_url.ends_with(SPLIT) => {
            let found = split(&decode(&config, SPLIT)?).map_err(|fault| fault.under("config"))?;
            all.split = Some(found);
            Ok(())
        }
        Some(config) if config.type_url.ends_with(HTTP_FAULT) => {
            let found = injected(&decode(&config, HTTP_FAULT)?);
            match found {
                // What others can do with it is lost on us, and they said that it may be.
                Err(_) if optional => {}
                found => {
                    let found = found?.map(Arc::new);
                    all.fault = found.map_or(SaidFault::None, SaidFault::Made);
                }
            }
            Ok(())
        }
        _ if optional => Ok(()),
        Some(config) => Err(Fault::at(
            "",
            format!("{} is not supported and not marked optional", config.type_url),
        )),
        None => Err(Fault::at("config", "must be set")),
    }
}

fn decode<M: prost::Message + Default>(any: &Any, name: &str) -> Result<M, Fault> {
    unpack(any, name).map_err(|error| Fault::at("", error.to_string()))
}

fn split(split: &pb::Split) -> Result<NamedSplit, Fault> {
    let key = match &split.key {
        None => SplitKey::Random,
        Some(pb::split::Key::Cookie(name)) if !name.is_empty() => {
            SplitKey::Cookie(name.as_str().into())
        }
        Some(pb::split::Key::Cookie(_)) => return Err(Fault::at("cookie", "must not be empty")),
        Some(pb::split::Key::Header(name)) => SplitKey::Header(
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Fault::at("header", format!("{name:?} is no header name")))?,
        ),
    };
    let sum: u64 = split.ranges.iter().map(|range| u64::from(range.buckets)).sum();
    if sum != u64::from(TOTAL) {
        return Err(Fault::at("ranges", format!("sum to {sum} buckets, must be {TOTAL}")));
    }
    let shares = split.ranges.iter().map(|range| (range.buckets as u16, range.cluster.as_str()));
    Ok(NamedSplit { key, salt: Salt::new(&split.salt), ranges: ranges(shares) })
}

/// Shares as ends of ranges; what is empty is left out, neighbours of one cluster become one.
pub(crate) fn ranges<'a>(shares: impl Iterator<Item = (u16, &'a str)>) -> Vec<(u16, Arc<str>)> {
    let mut ranges: Vec<(u16, Arc<str>)> = Vec::new();
    let mut end = 0;
    for (share, cluster) in shares.filter(|(share, _)| *share > 0) {
        end += share;
        match ranges.last_mut() {
            Some((last, name)) if **name == *cluster => *last = end,
            _ => ranges.push((end, cluster.into())),
        }
    }
    ranges
}
