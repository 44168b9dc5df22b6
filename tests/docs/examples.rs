//! Examples: responses and events of a daemon that this test runs, with a plugin that starts, stops
//! and is purged. Values that differ between runs are replaced: times, the host, paths and ports.

use std::collections::BTreeMap;

use hecate_daemon::wire::TraceDropped;
use serde_json::{Value, json};

use super::json::Json;
use super::support::erl::Erl;
use super::support::http::{Answer, Client};
use super::support::{Host, wait_for};

/// What one run of the daemon answered.
pub struct Examples {
    /// The response to each operation, by method and path.
    pub responses: BTreeMap<(&'static str, &'static str), Response>,
    /// The data of each event, by its name.
    pub events: BTreeMap<String, Json>,
}

/// A request and its response.
pub struct Response {
    pub request: String,
    pub status: u16,
    /// A line of the head that matters to clients.
    pub head: Option<String>,
    /// The body as text: JSON is shown over several lines.
    pub body: String,
    /// The body, if it is JSON.
    pub json: Option<Value>,
}

/// One run, whose values are made to look the same each time.
struct Run {
    host: Host,
    responses: BTreeMap<(&'static str, &'static str), Response>,
}

const REGISTRATION: &str =
    r#"{"name": "hecate-traderd", "version": "0.1.0", "description": "Trading daemon for Hecate"}"#;

impl Run {
    fn same_text(&self, text: &str) -> String {
        let home = self.host.home().to_str().unwrap();
        let text = text.replace(home, "/home/user").replace(&format!("@{}", self.host.name), "@vm");
        text.replace(&format!(":{})", self.host.epmd_port), ":4369)")
    }

    fn same_value(&self, key: &str, value: &Value) -> Value {
        match (key, value) {
            (_, Value::Null) => Value::Null,
            ("at" | "since" | "registered_at" | "lost_since", _) => "2026-12-01T09:30:00.000Z".into(),
            ("uptime_seconds", _) => 5.into(),
            ("round_trip_ms", _) => 0.5.into(),
            ("uid", _) => 1000.into(),
            ("user", _) => "user".into(),
            ("pid", _) => 812.into(),
            ("cookie_hash", _) => "fE8pQHiTwzSmy3qHvwRcDQ==".into(),
            ("host", Value::String(host)) if *host == self.host.name => "vm".into(),
            (_, Value::String(text)) => self.same_text(text).into(),
            (_, other) => other.clone(),
        }
    }

    fn same(&self, text: &str) -> Json {
        let mut json = Json::parse(text);
        json.map_plain("", &|key, value| self.same_value(key, value));
        json
    }

    /// Records the response to an operation, whose path may have parameters.
    fn record(&mut self, method: &'static str, pattern: &'static str, path: &str, body: Option<&str>) {
        let answer = self.ask(method, path, body.unwrap_or_default());
        let header = |name: &str| Some(format!("{name}: {}", answer.header(&name.to_lowercase())?));
        let json = answer.header("content-type").is_some_and(|kind| kind.ends_with("json"));
        let json = json.then(|| self.same(&answer.text));
        // Of the metrics, one family is enough.
        let lines = answer.text.lines().filter(|line| line.contains("hecate_plugins"));
        let body_text = json.as_ref().map_or_else(|| lines.collect::<Vec<_>>().join("\n"), Json::pretty);
        let sent = body.map(|body| format!("\nContent-Type: application/json\n\n{body}")).unwrap_or_default();
        let response = Response {
            request: format!("{method} {}{sent}", self.same_text(path)),
            status: answer.status,
            // The validator depends on the paths.
            head: header("Location").or_else(|| header("ETag").map(|_| "ETag: \"041a444db762c460\"".to_owned())),
            body: body_text,
            json: json.map(|json| json.value()),
        };
        self.responses.insert((method, pattern), response);
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut client = Client::connect(&self.host.socket()).unwrap();
        client.ask(method, path, body).unwrap()
    }
}

/// Collects the data of events by their names. Of `last`, the last one counts, else the first.
fn events(lines: impl Iterator<Item = String>, end: &str, last: &str) -> BTreeMap<String, String> {
    let (mut events, mut name) = (BTreeMap::new(), String::new());
    for line in lines {
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            if name == last {
                events.insert(name.clone(), data.to_owned());
            } else {
                events.entry(name.clone()).or_insert_with(|| data.to_owned());
            }
            if name == end {
                break;
            }
        }
    }
    events
}

/// Runs a daemon and a plugin, and returns what the daemon answers.
pub fn run() -> Examples {
    let (host, _epmd, _daemon) = Host::running(&[]);
    let mut run = Run { host, responses: BTreeMap::new() };
    run.record("POST", "/api/plugins/register", "/api/plugins/register", Some(REGISTRATION));
    let follow = |path: &str| Client::connect(&run.host.socket()).unwrap().follow_at(path, "");
    let trace = follow(&format!("/api/cluster/peers/{}/trace", run.host.node("hecate_traderd")));
    let stream = follow("/api/events");
    run.ask("POST", "/api/plugins/register", REGISTRATION);

    let erl = run.host.erl("hecate_traderd");
    wait_for("its node is connected", || run.host.plugin("hecate-traderd")["reason_code"] == "node_connected");
    wait_for("the peer has answered", || {
        let cluster = run.host.ask("GET", "/api/cluster").body;
        cluster["peers"][0]["round_trip_ms"].is_number() && cluster["peers"][0]["otp_release"].is_string()
    });
    record_all(&mut run);

    stop(&run.host, erl);
    run.record("DELETE", "/api/plugins/{name}", "/api/plugins/hecate-traderd", None);
    run.record("GET", "/api/plugins/{name}/data", "/api/plugins/hecate-traderd/data", None);
    run.record("DELETE", "/api/plugins/{name}/data", "/api/plugins/hecate-traderd/data", None);
    let traced = events(trace, "traced_v1", "");
    let events = events(stream, "plugin_data_purged_v1", "plugin_status_changed_v1").into_iter().chain(traced);
    let mut events: BTreeMap<String, Json> = events.map(|(name, data)| (name, run.same(&data))).collect();
    // A slow client cannot be arranged.
    let dropped = serde_json::to_string(&TraceDropped { dropped: 12 }).expect("JSON");
    events.insert("trace_dropped_v1".to_owned(), run.same(&dropped));
    Examples { responses: run.responses, events }
}

fn stop(host: &Host, erl: Erl) {
    erl.kill();
    host.plugin_until("hecate-traderd", "stopped");
}

/// Records the responses that a client gets while the plugin runs.
fn record_all(run: &mut Run) {
    for pattern in ["/api/plugins", "/api/cluster", "/api/cluster/plugins", "/health", "/livez", "/readyz", "/metrics"]
    {
        run.record("GET", pattern, pattern, None);
    }
    run.record("GET", "/api/plugins/{name}", "/api/plugins/hecate-traderd", None);
    let node = "hecate_marthad@10.42.0.7";
    let path = format!("/api/cluster/peers/{node}/diagnosis");
    run.record("GET", "/api/cluster/peers/{node}/diagnosis", &path, None);
    let health = run.responses.get_mut(&("GET", "/health")).expect("recorded");
    // The version differs in each release.
    let version = format!("\"version\": {}", json!(env!("CARGO_PKG_VERSION")));
    health.body = health.body.replace(&version, "\"version\": \"0.1.0\"");
}
