//! The real program on the simulated driver, one file a verb.

mod doctor;
mod handover;
mod harness;
mod hold;
mod status;
mod variables;
mod wait;
