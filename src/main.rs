#[allow(dead_code, reason = "`run` is not wired up yet")]
mod job;
#[allow(dead_code, reason = "`run` is not wired up yet")]
mod signals;

fn main() {}
