//! The real program on the simulated driver, one file a verb.

mod doctor;
mod harness;
mod hold;
mod run;
mod run_env;
mod run_signals;
mod run_terminal;
mod status;
mod variables;
mod wait;
