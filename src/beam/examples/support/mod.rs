//! Shared by the examples: their arguments, and the port of EPMD.

use std::error::Error;

/// Returns the arguments of the program.
///
/// # Errors
/// The number of arguments is wrong.
pub fn arguments<const N: usize>(usage: &str) -> Result<[String; N], String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    arguments.try_into().map_err(|_| format!("usage: {usage}"))
}

/// Returns the port of EPMD: that in `ERL_EPMD_PORT`, or 4369.
///
/// # Errors
/// The variable is not a port.
pub fn epmd_port() -> Result<u16, Box<dyn Error>> {
    match std::env::var("ERL_EPMD_PORT") {
        Ok(port) => Ok(port.parse()?),
        Err(_) => Ok(4369),
    }
}
