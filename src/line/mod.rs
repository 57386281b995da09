//! The line of this user's holders that do not have their memory yet.

pub mod policy;
