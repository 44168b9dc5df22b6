//! `register NAME`: registers a plugin, and prints its directories. The daemon checks the values.

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value};

use super::paths;
use crate::cli::support::client::Call;
use crate::cli::support::command::Common;
use crate::wire::Registered;

/// The arguments of `register`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Register {
    /// Name of the plugin, such as hecate-traderd
    name: String,
    /// Version of the plugin
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Description of the plugin
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Erlang node of the plugin [default: its node in the cluster]
    #[arg(long, value_name = "NAME@HOST")]
    node: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

impl Register {
    pub(in crate::cli) fn call(self) -> Call {
        let fields = [
            ("name", Some(self.name)),
            ("version", self.version),
            ("description", self.description),
            ("node", self.node),
        ];
        let given = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?))));
        let body = Some(Value::Object(given.collect::<Map<_, _>>()));
        Call { body, ..Call::new(Method::POST, "/api/plugins/register", show) }
    }
}

fn show(body: &[u8]) -> serde_json::Result<String> {
    let registered: Registered = serde_json::from_slice(body)?;
    Ok(paths::lines(registered.base_dir, registered.paths))
}
