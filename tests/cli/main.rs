//! The real program on the simulated driver, one file a verb.

mod doctor;
mod gpus;
mod handover;
mod harness;
mod hold;
mod inflate;
mod lessons;
mod ready;
mod sizes;
mod status;
mod variables;
mod wait;
