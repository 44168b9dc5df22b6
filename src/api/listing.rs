//! Encodes the plugins: the list of `GET /api/plugins`, the `plugins` of `/health` and the snapshot
//! of `/api/events`.
//!
//! Each is encoded once per view of the registry and state of the plugins' nodes, and all requests
//! share its bytes. Views are compared by address, because each change publishes a new view.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::cluster::view::NodeStates;
use crate::layout::Home;
use crate::limits;
use crate::plugin::{Plugin, Status};
use crate::registry::View;
use crate::wire::{self, PluginHealth};

/// The encoded list.
#[derive(Debug, Clone)]
pub(super) struct List {
    pub body: Bytes,
    /// The entity tag of the list.
    pub tag: HeaderValue,
}

/// The latest encodings. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing(Arc<Encodings>);

#[derive(Debug, Default)]
struct Encodings {
    list: Latest<List>,
    health: Latest<Bytes>,
    snapshots: Mutex<VecDeque<(Arc<View>, Snapshot)>>,
}

/// The encoded event that contains all plugins.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub bytes: Bytes,
    /// The revision of the registry in it.
    pub revision: u64,
    /// The states of nodes in it.
    pub nodes: NodeStates,
}

impl Listing {
    /// Returns the list of the plugins in this view.
    pub(super) fn of(&self, view: &Arc<View>, nodes: &NodeStates, home: &Home) -> List {
        self.0.list.of(view, nodes, |view| {
            let entry =
                |plugin: &Arc<Plugin>| wire::PluginEntry::new(plugin, &home.namespace(&plugin.name)).with_node(nodes);
            let body = wire::encode(&view.plugins.values().map(entry).collect::<Vec<_>>());
            List { tag: etag(&body), body }
        })
    }

    /// Returns the `plugins` of `/health`: `ok`, or why a plugin is stopped.
    pub(super) fn health(&self, view: &Arc<View>) -> Bytes {
        // The states of nodes are not part of it.
        self.0.health.of(view, &NodeStates::default(), |view| {
            let state = |plugin: &Arc<Plugin>| match plugin.status {
                _ if !view.ready => PluginHealth::Other("not judged since the daemon started".to_owned()),
                Status::Running => PluginHealth::Ok,
                Status::Stopped => PluginHealth::Other(plugin.reason.detail.clone()),
            };
            let plugins = view.plugins.values().map(|plugin| (plugin.name.to_string(), state(plugin)));
            wire::encode(&plugins.collect::<BTreeMap<_, _>>())
        })
    }

    /// Returns a snapshot of this view. If clients are still reading [`limits::HTTP_SNAPSHOTS`]
    /// others, returns the latest of those, which bounds the memory for slow readers. The events
    /// after its revision lead to this view.
    pub(super) fn snapshot(&self, view: &Arc<View>, nodes: &NodeStates, home: &Home) -> Snapshot {
        let mut kept = self.0.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = |kept: &(Arc<View>, Snapshot)| Arc::ptr_eq(&kept.0, view) && kept.1.nodes == *nodes;
        if let Some((_, latest)) = kept.front().filter(|kept| is_current(kept)) {
            return latest.clone();
        }
        // Drops snapshots that no client is reading.
        kept.retain(|(_, snapshot)| !snapshot.bytes.is_unique());
        match kept.front() {
            Some((_, latest)) if kept.len() >= limits::HTTP_SNAPSHOTS => latest.clone(),
            _ => {
                let shown = wire::Snapshot::new(view, home, nodes);
                let bytes = super::sse::encode("snapshot_v1", Some(view.revision), &shown);
                let snapshot = Snapshot { bytes, revision: view.revision, nodes: nodes.clone() };
                kept.push_front((Arc::clone(view), snapshot.clone()));
                snapshot
            }
        }
    }
}

/// The latest encoding, with its inputs.
#[derive(Debug)]
struct Latest<T>(Mutex<Option<(Arc<View>, NodeStates, T)>>);

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Latest<T> {
    /// Returns the encoding of this view and these node states. Concurrent callers wait for one
    /// encoding.
    fn of(&self, view: &Arc<View>, nodes: &NodeStates, make: impl FnOnce(&View) -> T) -> T {
        // The value is replaced as a whole, so a panic cannot leave it half updated.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some((of_view, of_nodes, made)) if Arc::ptr_eq(of_view, view) && of_nodes == nodes => made.clone(),
            _ => {
                let made = make(view);
                *latest = Some((Arc::clone(view), nodes.clone(), made.clone()));
                made
            }
        }
    }
}

/// Returns a strong entity tag (RFC 9110, section 8.8.3), the same for the same bytes.
pub(super) fn etag(body: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let digits = format!("\"{:016x}\"", hasher.finish());
    // Hexadecimal digits in quotes are always a valid header value.
    HeaderValue::try_from(digits).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use beam::connect::dial::DialCode;

    use super::*;
    use crate::cluster::view::{NodeState, PluginNode};
    use crate::plugin::sample;

    fn view(name: &str) -> Arc<View> {
        let plugin = Plugin { node: Some("oned@h".parse().unwrap()), ..sample::plugin(name) };
        let plugins = [(plugin.name.clone(), Arc::new(plugin))].into_iter().collect();
        Arc::new(View { revision: 1, plugins, ..View::default() })
    }

    #[test]
    fn the_list_is_encoded_once_for_each_view_and_state_of_nodes() {
        let (listing, home) = (Listing::default(), Home::new("/h".into()).expect("absolute"));
        let (one, other) = (view("hecate-oned"), view("hecate-twod"));
        let mut nodes = NodeStates::default();
        let first = listing.of(&one, &nodes, &home);
        assert_eq!(first.body.as_ptr(), listing.of(&one, &nodes, &home).body.as_ptr(), "the same bytes");
        for (view, name) in [(&other, "hecate-twod"), (&one, "hecate-oned")] {
            let body = listing.of(view, &nodes, &home).body;
            let list: Vec<wire::PluginEntry> = serde_json::from_slice(&body).expect("a list");
            assert_eq!(list.into_iter().map(|entry| entry.name).collect::<Vec<_>>(), [name]);
        }
        let state = NodeState::NotConnected(Some(DialCode::CookieMismatch));
        nodes.set("oned@h".parse().unwrap(), Some(PluginNode { state, plugins: Arc::default() }));
        let changed = listing.of(&one, &nodes, &home);
        assert_ne!(changed.tag, first.tag);
        let list: Vec<wire::PluginEntry> = serde_json::from_slice(&changed.body).expect("a list");
        let seen = list.first().map(|entry| (entry.node_state.clone(), entry.node_failure.clone()));
        assert_eq!(seen, Some((Some(wire::NodeState::NotConnected), Some(wire::FailureCode::CookieMismatch))));
    }

    #[test]
    fn the_plugins_of_health_share_their_bytes() {
        let listing = Listing::default();
        let one = view("hecate-oned");
        let unjudged = listing.health(&one);
        assert_eq!(unjudged, r#"{"hecate-oned":"not judged since the daemon started"}"#);
        assert_eq!(unjudged.as_ptr(), listing.health(&one).as_ptr());
        let judged = Arc::new(View { ready: true, ..View::clone(&one) });
        assert_eq!(listing.health(&judged), r#"{"hecate-oned":"ok"}"#);
    }

    #[test]
    fn streams_share_the_bytes_of_a_snapshot() {
        let (listing, home) = (Listing::default(), Home::new("/h".into()).expect("absolute"));
        let (one, nodes) = (view("hecate-oned"), NodeStates::default());
        let Snapshot { bytes, revision, .. } = listing.snapshot(&one, &nodes, &home);
        assert_eq!(bytes.as_ptr(), listing.clone().snapshot(&one, &nodes, &home).bytes.as_ptr());
        assert_eq!(revision, 1);
        assert!(bytes.starts_with(b"event: snapshot_v1\nid: 1\ndata: {\"revision\":1,"), "{bytes:?}");
        assert!(bytes.ends_with(b"]}\n\n"));
    }

    #[test]
    fn few_snapshots_are_kept_for_slow_readers() {
        let (listing, home) = (Listing::default(), Home::new("/h".into()).expect("absolute"));
        let snapshot = |revision| {
            let view = Arc::new(View { revision, ..View::clone(&view("hecate-oned")) });
            listing.snapshot(&view, &NodeStates::default(), &home)
        };
        let most = u64::try_from(limits::HTTP_SNAPSHOTS).expect("few");
        let mut read: Vec<Snapshot> = (1..=most).map(snapshot).collect();
        assert_eq!(read.iter().map(|snapshot| snapshot.revision).collect::<Vec<_>>(), (1..=most).collect::<Vec<_>>());
        let more = snapshot(100);
        assert_eq!(
            (more.revision, more.bytes.as_ptr()),
            (most, read[read.len() - 1].bytes.as_ptr()),
            "the latest kept snapshot"
        );
        read.remove(0);
        assert_eq!(snapshot(101).revision, 101, "one snapshot was read");
    }

    #[test]
    fn concurrent_requests_share_one_encoding() {
        let (latest, one) = (Latest::default(), view("hecate-oned"));
        let made = std::sync::atomic::AtomicU32::new(0);
        let make = |_: &View| made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| latest.of(&one, &NodeStates::default(), make));
            }
        });
        assert_eq!(made.into_inner(), 1);
    }
}
