//! What checked configuration says.
