//! The `hecate-daemon` program.

fn main() {}
