//! Whatever comes in, reading ends.
