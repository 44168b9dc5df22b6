//! Reads the reports of other hecate-daemons about their plugins: snapshots, and the events that
//! [`proxy`](crate::cluster::plugins::proxy) describes. Any node may have sent them. Pure.
//!
//! The fields have the rules and limits of our own registry, and a plugin with an invalid one is
//! skipped.

use std::time::{Duration, SystemTime};

use beam::etf::{Atoms, DecodeError, Map, Raw, Reader, Term};

use crate::cluster::terms;
use crate::cluster::view::PluginView;
use crate::limits;
use crate::plugin::{EventKind, Field, FieldValue, Reason, ReasonCode, RegistrationRequest, Status};

/// The plugins of a daemon at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision of the daemon's registry.
    pub revision: u64,
    /// The plugins.
    pub plugins: Vec<PluginView>,
    /// The number of plugins that were skipped, because they are invalid or exceed a limit.
    pub left_out: usize,
}

/// An event of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEvent {
    /// The revision of the daemon's registry after the event.
    pub revision: u64,
    /// The change.
    pub change: Change,
}

/// The change that an event makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The plugin was registered or has changed.
    Put(PluginView),
    /// The plugin with this name was deregistered.
    Removed(String),
    /// The registered plugins have not changed.
    Nothing,
}

/// Reads `{ok, #{revision => Revision, plugins => [Info]}}`. Returns at most [`limits::PLUGINS`]
/// plugins.
///
/// # Errors
/// The answer is something else, such as `{error, Why}`.
pub fn snapshot(answer: &Raw, atoms: &mut Atoms) -> Result<Snapshot, DecodeError> {
    let (mut revision, mut plugins) = (None, None);
    let mut r = Reader::resume(answer, 0, atoms);
    r.expect_tuple(2)?;
    r.expect_atom("ok")?;
    for _ in 0..r.map()? {
        match r.term()? {
            key if key == Term::atom("revision") => revision = u64::try_from(r.integer()?).ok(),
            key if key == Term::atom("plugins") => plugins = Some(r.raw()?),
            _ => drop(r.raw()?),
        }
    }
    let (Some(revision), Some(plugins)) = (revision, plugins) else { return Err(DecodeError::OtherAtom) };
    let mut snapshot = Snapshot { revision, ..Snapshot::default() };
    // Decodes one plugin at a time, because all of them as terms would need much memory.
    let mut r = Reader::resume(&plugins, 0, atoms);
    let mut list = r.list()?;
    while r.more(&mut list)? {
        match plugin(&r.term()?) {
            Some(plugin) if snapshot.plugins.len() < limits::PLUGINS => snapshot.plugins.push(plugin),
            _ => snapshot.left_out += 1,
        }
    }
    Ok(snapshot)
}

/// Reads `{Event, Map}`.
#[must_use]
pub fn event(message: &Raw, atoms: &mut Atoms) -> Option<HostEvent> {
    let mut r = Reader::resume(message, 0, atoms);
    r.expect_tuple(2).ok()?;
    let kind = EventKind::parse(r.atom().ok()?.as_str())?;
    let term = r.term().ok()?;
    let Term::Map(map) = &term else { return None };
    let Some(Term::Int(revision)) = map.get_atom("revision") else { return None };
    let change = match kind {
        EventKind::Registered | EventKind::StatusChanged => Change::Put(plugin(&term)?),
        EventKind::Deregistered => Change::Removed(plugin(&term)?.name),
        EventKind::DataPurged => Change::Nothing,
    };
    Some(HostEvent { revision: u64::try_from(*revision).ok()?, change })
}

/// Reads one plugin: the answer to `info`. Older daemons send no `reason_code`.
fn plugin(info: &Term) -> Option<PluginView> {
    let Term::Map(map) = info else { return None };
    let value = |key| map.get_atom(key).map_or(FieldValue::Absent, terms::text);
    let request = RegistrationRequest {
        name: value("name"),
        version: value("version"),
        description: value("description"),
        node: value("node"),
    };
    let request = request.check().ok()?;
    fn set<T>(field: Field<T>) -> Option<T> {
        match field {
            Field::Set(value) => Some(value),
            Field::Absent | Field::Clear => None,
        }
    }
    Some(PluginView {
        name: request.name.to_string(),
        version: set(request.version),
        description: set(request.description),
        node: set(request.node),
        socket: text(map, "socket", limits::SUN_PATH)?,
        status: Status::parse(map.get_atom("status")?.as_atom()?.as_str())?,
        since: time(map.get_atom("since")?)?,
        reason: Reason { code: reason_code(map), detail: text(map, "reason", limits::PLUGIN_REASON)? },
    })
}

fn text(map: &Map, key: &str, most: usize) -> Option<String> {
    let FieldValue::Text(text) = terms::text(map.get_atom(key)?) else { return None };
    (text.len() <= most && !text.contains(char::is_control)).then_some(text)
}

/// Reads the reason code. An older daemon sends none, and a newer one may send unknown codes.
fn reason_code(map: &Map) -> ReasonCode {
    map.get_atom("reason_code")
        .and_then(Term::as_atom)
        .map_or(ReasonCode::Unknown, |code| ReasonCode::parse(code.as_str()))
}

/// Reads milliseconds since 1970, if RFC 3339 can express the year.
fn time(since: &Term) -> Option<SystemTime> {
    let Term::Int(ms) = since else { return None };
    let since = Duration::from_millis(u64::try_from(*ms).ok()?);
    (since < limits::TIME).then(|| SystemTime::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use beam::etf::work;
    use tokio::sync::watch;

    use super::*;
    use crate::cluster::plugins::proxy::Registered;
    use crate::cluster::terms::map;
    use crate::layout::Home;
    use crate::plugin::{Plugin, Status, sample};
    use crate::registry;

    fn plugin(name: &str) -> Plugin {
        Plugin {
            version: Some("1".to_owned()),
            node: Some("a_bd@h".parse().unwrap()),
            status: Status::Stopped,
            since: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
            reason: Reason::new(ReasonCode::NodeEnded, "it ended"),
            ..sample::plugin(name)
        }
    }

    fn registered() -> Registered {
        let (_, view) = watch::channel(Arc::default());
        let cluster = watch::channel(Arc::default()).1;
        Registered { view, cluster, home: Home::new("/home".into()).unwrap(), host: "h".into() }
    }

    fn seen(name: &str) -> PluginView {
        PluginView {
            name: name.to_owned(),
            version: Some("1".to_owned()),
            description: None,
            node: Some("a_bd@h".parse().unwrap()),
            socket: format!("/home/{name}/sockets/api.sock"),
            status: Status::Stopped,
            since: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
            reason: Reason::new(ReasonCode::NodeEnded, "it ended"),
        }
    }

    fn read(answer: &Term) -> Result<Snapshot, DecodeError> {
        snapshot(&Raw::encode(answer), &mut Atoms::new())
    }

    fn answer(revision: Term, plugins: Term) -> Term {
        Term::tuple([Term::atom("ok"), map([("revision", revision), ("plugins", plugins)])])
    }

    #[test]
    fn the_reports_of_this_daemon_are_read() {
        let plugins = ["a-bd", "c-dd"].map(plugin);
        let plugins = plugins.into_iter().map(|plugin| (plugin.name.clone(), Arc::new(plugin))).collect();
        let view = registry::View { revision: 7, plugins, ..registry::View::default() };
        let report = Term::tuple([Term::atom("ok"), registered().snapshot(&view)]);
        let expected = Snapshot { revision: 7, plugins: vec![seen("a-bd"), seen("c-dd")], left_out: 0 };
        assert_eq!(read(&report), Ok(expected));
        for (kind, change) in [
            (EventKind::Registered, Change::Put(seen("a-bd"))),
            (EventKind::StatusChanged, Change::Put(seen("a-bd"))),
            (EventKind::Deregistered, Change::Removed("a-bd".to_owned())),
            (EventKind::DataPurged, Change::Nothing),
        ] {
            let plugin = Arc::new(plugin("a-bd"));
            let sent = crate::plugin::Event { revision: 9, at: SystemTime::UNIX_EPOCH, kind, plugin };
            let message = Term::tuple([Term::atom(kind.name()), registered().event(&sent)]);
            assert_eq!(event(&Raw::encode(&message), &mut Atoms::new()), Some(HostEvent { revision: 9, change }));
        }
    }

    #[test]
    fn malformed_reports_are_refused() {
        let none = || Term::List(vec![]);
        for bad in [
            Term::atom("ok"),
            Term::tuple([Term::atom("error"), Term::atom("notsup")]),
            Term::tuple([Term::atom("ok"), none()]),
            Term::tuple([Term::atom("ok"), map([("plugins", none())])]),
            answer(Term::Int(-1), none()),
            answer(Term::Int(1), Term::atom("none")),
            answer(Term::Int(1), Term::improper(vec![Term::Int(1)], Term::Int(2))),
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
        let read_event = |group, map| event(&Raw::encode(&Term::tuple([Term::atom(group), map])), &mut Atoms::new());
        for bad in [
            read_event("plugin_registered_v1", Term::Int(1)),
            read_event("plugin_registered_v1", map([("revision", Term::Int(1))])),
            read_event("plugin_data_purged_v1", map([("revision", Term::Int(-1))])),
            read_event("plugin_data_purged_v1", map([])),
            read_event("plugin_registered_v2", map([("revision", Term::Int(1))])),
        ] {
            assert_eq!(bad, None);
        }
    }

    /// Returns a valid plugin in which one field has another value.
    fn odd(key: &'static str, value: Term) -> Term {
        let Term::Map(valid) = registered().info(&plugin("a-bd")) else { panic!("a map") };
        let keys = ["name", "version", "description", "status", "socket", "node", "since", "reason", "reason_code"];
        map(keys.map(|k| (k, if k == key { value.clone() } else { valid.get_atom(k).unwrap().clone() })))
    }

    #[test]
    fn texts_and_times_are_bounded() {
        let long = |most: usize| Term::binary("x".repeat(most + 1));
        let last = i64::try_from(limits::TIME.as_millis()).unwrap();
        let bad = [
            ("name", Term::binary("../etc")),
            ("name", Term::Int(1)),
            ("version", long(limits::PLUGIN_VERSION)),
            ("description", long(limits::PLUGIN_DESCRIPTION)),
            ("status", Term::atom("happy")),
            ("status", Term::binary("running")),
            ("socket", long(limits::SUN_PATH)),
            ("socket", Term::binary([0xff])),
            ("node", Term::atom("nowhere")),
            ("since", Term::Int(-1)),
            ("since", Term::Int(last)),
            ("reason", long(limits::PLUGIN_REASON)),
            ("reason", Term::binary("\u{1b}[2J")),
        ];
        let left_out = bad.len();
        let plugins = bad.into_iter().map(|(key, value)| odd(key, value)).chain([odd("", Term::Int(1))]);
        let read = read(&answer(Term::Int(1), Term::List(plugins.collect()))).unwrap();
        assert_eq!((read.plugins, read.left_out), (vec![seen("a-bd")], left_out));
        let good = odd("since", Term::Int(last - 1));
        let time = super::plugin(&good).unwrap().since;
        assert_eq!(humantime::format_rfc3339_millis(time).to_string(), "9999-12-31T23:59:59.999Z");
        assert!(super::plugin(&odd("reason", Term::binary("x".repeat(limits::PLUGIN_REASON)))).is_some());
    }

    #[test]
    fn a_plugin_of_an_older_or_newer_daemon_has_an_unknown_reason_code() {
        let of = |info: &Term| super::plugin(info).unwrap().reason;
        let unknown = Reason::new(ReasonCode::Unknown, "it ended");
        for code in [Term::atom("of_a_newer_daemon"), Term::binary("node_down"), Term::Int(1)] {
            assert_eq!(of(&odd("reason_code", code)), unknown);
        }
        assert_eq!(of(&odd("reason_code", Term::atom("node_down"))).code, ReasonCode::NodeDown);
        let Term::Map(all) = odd("", Term::Int(1)) else { panic!("a map") };
        let older = ["name", "version", "description", "status", "socket", "node", "since", "reason"];
        assert_eq!(of(&map(older.map(|key| (key, all.get_atom(key).unwrap().clone())))), unknown);
    }

    #[test]
    fn snapshots_and_events_cost_n_log_n() {
        let cost = |term: &Term| {
            let message = Raw::encode(term);
            work::of(|| {
                drop(snapshot(&message, &mut Atoms::new()));
                drop(event(&message, &mut Atoms::new()));
            })
        };
        let keys = |n: usize| {
            let pairs = (0..n).map(|i| (Term::binary((i * 7919 % 8192).to_string()), Term::Int(1)));
            Term::Map(Map::new(pairs.collect()).unwrap())
        };
        work::assert_n_log_n("a snapshot, of many plugins", 200, |n| {
            cost(&answer(Term::Int(1), Term::List(vec![odd("", Term::Int(1)); n])))
        });
        work::assert_n_log_n("a snapshot, of a plugin with many fields", 1000, |n| {
            cost(&answer(Term::Int(1), Term::List(vec![keys(n)])))
        });
        work::assert_n_log_n("a snapshot, with many fields", 1000, |n| cost(&Term::tuple([Term::atom("ok"), keys(n)])));
        work::assert_n_log_n("an event, with many fields", 1000, |n| {
            cost(&Term::tuple([Term::atom("plugin_registered_v1"), keys(n)]))
        });
    }

    #[test]
    fn the_number_of_plugins_in_a_snapshot_is_bounded() {
        let small = Term::List(vec![odd("", Term::Int(1)); limits::PLUGINS + 2]);
        let read = read(&answer(Term::Int(1), small)).unwrap();
        assert_eq!((read.plugins.len(), read.left_out), (limits::PLUGINS, 2));
    }
}
