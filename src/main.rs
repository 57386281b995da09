//! gpu-balloon: reserve GPU memory, hold it, hand it over.

mod control;
mod gpu;

fn main() {}
