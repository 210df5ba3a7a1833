//! Why a connection is not passed on.

/// Nothing was sent to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No service has the name, the port or the address that was wanted.
    NoRoute,
    /// The version has no endpoint.
    NoEndpoint,
    /// The caps of the cluster are reached.
    Overflow,
    /// No endpoint accepted a connection.
    ConnectFailed,
}

impl Refusal {
    /// A word for machines.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::NoEndpoint => "no_endpoint",
            Self::Overflow => "overflow",
            Self::ConnectFailed => "connect_failed",
        }
    }
}
