//! The list of `GET /api/plugins`: made once for each view of the registry, and shared by all who ask for it.
//!
//! Keeps the last one only. A view is replaced as a whole, so that one which is the same is not merely equal.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderValue;
use tokio::sync::watch;

use super::wire;
use crate::layout::Home;
use crate::registry::{Plugin, View};

/// The list, encoded.
#[derive(Debug, Clone)]
pub(super) struct List {
    pub body: Bytes,
    /// Its validator.
    pub tag: HeaderValue,
}

/// The list as it was asked for last, and the view that it was made of.
#[derive(Debug, Default)]
pub(super) struct Listing(watch::Sender<Option<(Arc<View>, List)>>);

impl Listing {
    /// The list of these plugins. Two who ask at once may both make it.
    pub(super) fn of(&self, view: Arc<View>, home: &Home) -> List {
        if let Some((made_of, list)) = &*self.0.borrow()
            && Arc::ptr_eq(made_of, &view)
        {
            return list.clone();
        }
        let entry = |plugin: &Arc<Plugin>| wire::PluginEntry::new(plugin, &home.namespace(&plugin.name));
        let body = wire::encode(&view.plugins.values().map(entry).collect::<Vec<_>>());
        let list = List { tag: etag(&body), body };
        self.0.send_replace(Some((view, list.clone())));
        list
    }
}

/// A strong validator (RFC 9110, section 8.8.3): the same for the same bytes.
pub(super) fn etag(body: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let digits = format!("\"{:016x}\"", hasher.finish());
    // Hexadecimal digits in quotes always are a header value.
    HeaderValue::try_from(digits).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::name::PluginName;
    use crate::registry::Status;

    fn view(name: &str) -> Arc<View> {
        let name = PluginName::parse(name).expect("valid");
        let plugin = Plugin {
            name: name.clone(),
            version: None,
            description: None,
            node: None,
            node_given: false,
            status: Status::Running,
            since: UNIX_EPOCH,
            reason: "it registered".into(),
            registered_at: UNIX_EPOCH,
            incarnation: 1,
        };
        let plugins = [(name, Arc::new(plugin))].into_iter().collect();
        Arc::new(View { revision: 1, plugins, ..View::default() })
    }

    #[test]
    fn it_is_made_once_for_each_view() {
        let (listing, home) = (Listing::default(), Home::new("/h".into()).expect("absolute"));
        let (one, other) = (view("hecate-oned"), view("hecate-twod"));
        let first = listing.of(one.clone(), &home);
        assert_eq!(first.body.as_ptr(), listing.of(one.clone(), &home).body.as_ptr(), "the same bytes");
        for (view, name) in [(other, "hecate-twod"), (one, "hecate-oned")] {
            let body = listing.of(view, &home).body;
            let list: Vec<wire::PluginEntry> = serde_json::from_slice(&body).expect("a list");
            assert_eq!(list.into_iter().map(|entry| entry.name).collect::<Vec<_>>(), [name]);
        }
    }
}
