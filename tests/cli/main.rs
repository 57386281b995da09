//! The real program on the simulated driver, one file a verb.

mod control;
mod detach;
mod doctor;
mod drivers;
mod failures;
mod gpus;
mod handover;
mod harness;
mod hold;
mod idle;
mod inflate;
mod lessons;
mod names;
mod ready;
mod release;
mod resize;
mod run;
mod run_env;
mod run_signals;
mod run_terminal;
mod sizes;
mod status;
mod until_exit;
mod usage;
mod variables;
mod wait;
