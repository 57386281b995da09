#[allow(dead_code)] // Until the commands use it.
mod units;

fn main() {}
