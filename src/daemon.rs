//! (being built)

use crate::config::Config;

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// (being built)
    #[error("serving is being built")]
    Unbuilt,
}

/// Serves until it is told to stop.
///
/// # Errors
/// (being built)
pub async fn run(_config: Config) -> Result<(), Error> {
    Err(Error::Unbuilt)
}
