//! What a step costs, for tests: how many resources it looked at.

#[cfg(test)]
thread_local! {
    static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// So many resources are looked at.
#[cfg(test)]
pub(crate) fn look_at(resources: usize) {
    LOOKED_AT.set(LOOKED_AT.get() + resources);
}

/// Costs nothing outside of tests.
#[cfg(not(test))]
pub(crate) const fn look_at(_resources: usize) {}

/// How many resources were looked at since the last call.
#[cfg(test)]
pub(crate) fn take_looked_at() -> usize {
    LOOKED_AT.take()
}
