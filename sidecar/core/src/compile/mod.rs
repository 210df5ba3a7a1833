//! From xDS resources to tables.
