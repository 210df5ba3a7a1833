//! What changes from request to request.

/// What the caller knows of its endpoints, by their place in the cluster.
pub trait Load {
    /// Requests that run now.
    fn in_flight(&self, at: usize) -> u32;

    /// Moving average of the latency in nanoseconds; 0 before the first answer.
    fn latency(&self, at: usize) -> f64;

    /// What a new endpoint gets of its share: above 0.0, at most 1.0 (see [`super::share`]).
    fn share(&self, at: usize) -> f64;
}

/// Nothing runs anywhere.
#[cfg(test)]
pub(super) struct Idle;

#[cfg(test)]
impl Load for Idle {
    fn in_flight(&self, _: usize) -> u32 {
        0
    }

    fn latency(&self, _: usize) -> f64 {
        0.0
    }

    fn share(&self, _: usize) -> f64 {
        1.0
    }
}
