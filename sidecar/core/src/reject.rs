//! A refused resource: who, which field, why.

use std::fmt;

use segue_shared::xds_names::short_type;

/// A resource that is not taken; its last good version serves on. Sending it again cannot help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub type_url: String,
    /// Name of the resource; empty where it could not be read.
    pub resource: String,
    /// In the words of the proto file: `virtual_hosts[0].routes[2].route.weighted_clusters`. Empty
    /// where the whole resource is meant.
    pub field_path: String,
    pub reason: String,
}

/// `Cluster default/chat/v1: type: ORIGINAL_DST is not supported`, one line of a NACK.
impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", short_type(&self.type_url), self.resource)?;
        if !self.field_path.is_empty() {
            write!(f, ": {}", self.field_path)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// A fault inside a resource, on its way up to the resource that it makes a [`Reject`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub path: String,
    pub reason: String,
}

impl Fault {
    /// A fault of one field.
    pub fn at(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }

    /// The same fault as seen from the message that holds this one under `parent`.
    pub fn under(mut self, parent: &str) -> Self {
        if self.path.is_empty() {
            self.path.push_str(parent);
        } else if self.path.starts_with('[') {
            self.path.insert_str(0, parent);
        } else {
            self.path = format!("{parent}.{}", self.path);
        }
        self
    }

    /// The fault as the refusal of a resource.
    pub fn reject(self, type_url: &str, resource: &str) -> Reject {
        Reject {
            type_url: type_url.to_owned(),
            resource: resource.to_owned(),
            field_path: self.path,
            reason: self.reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use segue_shared::xds_names::type_urls;

    use super::*;

    #[test]
    fn a_reject_reads_as_type_name_field_reason() {
        let fault = Fault::at("weighted_clusters", "sums to 0")
            .under("route")
            .under("[2]")
            .under("routes")
            .under("virtual_hosts[0]");
        assert_eq!(
            fault.reject(type_urls::ROUTE, "outbound").to_string(),
            "RouteConfiguration outbound: \
             virtual_hosts[0].routes[2].route.weighted_clusters: sums to 0"
        );
    }
}
