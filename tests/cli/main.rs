//! The real program on the simulated driver, one file a verb.

mod gpus;
mod harness;
mod hold;
mod sizes;
