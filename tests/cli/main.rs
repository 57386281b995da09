//! The real program on the simulated driver, one file a verb.

mod drivers;
mod failures;
mod gpus;
mod harness;
mod hold;
mod idle;
mod inflate;
mod lessons;
mod ready;
mod sizes;
mod usage;
