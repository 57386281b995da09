//! The real program on the simulated driver, one file a verb.

mod doctor;
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
mod status;
mod usage;
mod variables;
mod wait;
