//! Many at a time.
