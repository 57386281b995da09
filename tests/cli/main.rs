//! The real program on the simulated driver, one file a verb.

mod harness;
mod hold;
