//! The real program on the simulated driver, one file a verb.

mod control;
mod detach;
mod doctor;
mod gpus;
mod harness;
mod hold;
mod names;
mod release;
mod resize;
mod sizes;
mod status;
mod until_exit;
mod variables;
