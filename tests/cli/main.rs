//! The real program on the simulated driver, one file a verb.
#![allow(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

mod harness;
