//! The well-behaved client: it registers a plugin, lists all plugins, pings the node, and records
//! the responses.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::World;
use crate::support::erl::Erl;
use crate::support::{Host, PATIENCE, http, wait_within};

/// The number of plugins that it registers again and again, each time with another version.
const PLUGINS: usize = 64;

pub struct Client {
    witness: Erl,
    ping: String,
    rounds: usize,
    /// The last registered version of each plugin.
    registered: BTreeMap<String, String>,
    /// The duration of each answered call.
    took: Vec<Duration>,
    /// Each call without an answer or with a wrong one.
    pub lost: Vec<String>,
}

impl Client {
    /// Starts the client, and connects its node to the daemon.
    pub fn new(world: &World) -> Self {
        let mut witness = world.host.erl("witness");
        let ping = format!("net_adm:ping('{}')", world.node);
        assert_eq!(witness.eval(&ping), "pong");
        witness.eval("net_kernel:monitor_nodes(true)");
        Self { witness, ping, rounds: 0, registered: BTreeMap::new(), took: Vec::new(), lost: Vec::new() }
    }

    /// Makes one call of each kind. Returns how many were answered.
    pub fn round(&mut self, host: &Host) -> u64 {
        self.rounds += 1;
        let name = format!("hecate-siege{}d", self.rounds % PLUGINS);
        let version = self.rounds.to_string();
        let before = self.took.len();
        let body = json!({"name": name, "version": version});
        self.call("register", || {
            let answer = ask(host, "POST", "/api/plugins/register", Some(&body))?;
            if answer.status == 201 { Ok(()) } else { Err(format!("{answer:?}")) }
        });
        if self.took.len() > before {
            self.registered.insert(name.clone(), version.clone());
        }
        self.call("list", || match listed(host) {
            Ok(listed) if listed.get(&name) == Some(&version) => Ok(()),
            other => Err(format!("{name} {version} is not in {other:?}")),
        });
        let (ping, started) = (self.ping.clone(), Instant::now());
        match self.witness.eval(&ping).as_str() {
            "pong" => self.took.push(started.elapsed()),
            other => self.lost.push(format!("ping: {other}")),
        }
        let down = self.witness.eval("receive {nodedown, N} -> N after 0 -> none end");
        if down != "none" {
            self.lost.push(format!("the connection of the client's node ended: {down}"));
        }
        u64::try_from(self.took.len() - before).unwrap()
    }

    fn call(&mut self, what: &str, call: impl FnOnce() -> Result<(), String>) {
        let started = Instant::now();
        match call() {
            Ok(()) => self.took.push(started.elapsed()),
            Err(why) => self.lost.push(format!("{what}: {why}")),
        }
    }

    /// Checks that each acknowledged registration is in the list.
    pub fn check_what_is_stored(&mut self, host: &Host) {
        let listed = listed(host).expect("a list");
        for (name, version) in &self.registered {
            if listed.get(name) != Some(version) {
                self.lost.push(format!("{name} {version} was stored as {:?}", listed.get(name)));
            }
        }
    }

    /// Returns the 99th percentile of the duration of answered calls.
    pub fn p99(&self) -> Duration {
        self.percentile(99)
    }

    fn percentile(&self, percent: usize) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took.get(took.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
    }

    /// Summarizes the calls in one line.
    pub fn report(&self) -> String {
        let [p50, p99, longest] = [50, 99, 100].map(|percent| self.percentile(percent));
        format!(
            "{} answered, {} lost, p50 {p50:.1?}, p99 {p99:.1?}, longest {longest:.1?}",
            self.took.len(),
            self.lost.len()
        )
    }
}

/// Sends a request. Retries while the socket is missing, because an attack may have removed it.
fn ask(host: &Host, method: &str, path: &str, body: Option<&Value>) -> Result<http::Answer, String> {
    wait_within(PATIENCE, "the socket is bound again", || match http::ask(&host.socket(), method, path, body) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        answer => Some(answer.map_err(|error| error.to_string())),
    })
}

/// Returns the version of each plugin in the list.
fn listed(host: &Host) -> Result<BTreeMap<String, String>, String> {
    let answer = ask(host, "GET", "/api/plugins", None)?;
    let plugins = answer.body.as_array().ok_or_else(|| format!("{answer:?}"))?;
    let text = |plugin: &Value, key: &str| plugin[key].as_str().unwrap_or_default().to_owned();
    Ok(plugins.iter().map(|plugin| (text(plugin, "name"), text(plugin, "version"))).collect())
}
