//! The process that represents a running plugin in `pg`. It answers `info` and forwards no message
//! to the plugin.

use std::sync::Arc;

use beam::etf::{Atom, Atoms, Raw, Term};
use beam::node::{Answer, Behaviour, Caller};
use tokio::sync::watch;

use crate::cluster::terms::{integer, map, milliseconds, undefined};
use crate::cluster::view::{ClusterView, NodeState};
use crate::layout::Home;
use crate::plugin::{Event, EventKind, Plugin, PluginName};
use crate::registry::View;

/// The sources of what Erlang nodes see of a plugin.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The present view of the registry.
    pub view: watch::Receiver<Arc<View>>,
    /// The cluster as our node sees it.
    pub cluster: watch::Receiver<Arc<ClusterView>>,
    /// The directory of the namespaces.
    pub home: Home,
    /// The host part of our node name.
    pub host: Arc<str>,
}

impl Registered {
    /// Returns the map that answers `gen_server:call(Member, info)`. Texts are binaries; `status`,
    /// `reason_code` and `node` are atoms; a field without a value is `undefined`; times are
    /// milliseconds since 1970. Only a plugin with a node has the key `node_state`, and
    /// `node_failure` is only there after a failure.
    #[must_use]
    pub fn info(&self, plugin: &Plugin) -> Term {
        map(self.fields(plugin).into_iter().chain(self.node_state(plugin)))
    }

    /// Returns all registered plugins at one revision. Events with later revisions change it.
    #[must_use]
    pub fn snapshot(&self, view: &View) -> Term {
        let plugins = view.plugins.values().map(|plugin| self.info(plugin)).collect();
        map([("revision", integer(view.revision)), ("plugins", Term::List(plugins))])
    }

    /// Returns the map in the message to the group of an event. It has the keys of [`Self::info`],
    /// and the event's `revision` and `at`.
    #[must_use]
    pub fn event(&self, event: &Event) -> Term {
        let own = [("revision", integer(event.revision)), ("at", milliseconds(event.at))];
        let is_there = event.kind != EventKind::Deregistered;
        let node = is_there.then(|| self.node_state(&event.plugin)).into_iter().flatten();
        map(self.fields(&event.plugin).into_iter().chain(node).chain(own))
    }

    /// Returns whether the plugin's node is connected to ours, and why not.
    fn node_state(&self, plugin: &Plugin) -> impl Iterator<Item = (&'static str, Term)> {
        let state = plugin.node.as_deref().map(|node| self.cluster.borrow().plugin_nodes.of(node));
        let failure = state.and_then(NodeState::failure).map(|code| ("node_failure", Term::atom(code.name())));
        state.map(|state| ("node_state", Term::atom(state.name()))).into_iter().chain(failure)
    }

    fn fields(&self, plugin: &Plugin) -> [(&'static str, Term); 12] {
        let namespace = self.home.namespace(&plugin.name);
        let text = |value: &Option<String>| value.as_ref().map_or_else(undefined, Term::binary);
        let path = |path: &std::path::Path| Term::binary(path.as_os_str().as_encoded_bytes());
        let node = plugin.node.as_ref().map_or_else(undefined, |node| Term::Atom(node.atom()));
        let paths = map([
            ("sqlite", path(&namespace.sqlite())),
            ("reckon_db", path(&namespace.reckon_db())),
            ("sockets", path(&namespace.sockets())),
            ("run", path(&namespace.run())),
            ("connectors", path(&namespace.connectors())),
        ]);
        [
            ("name", Term::binary(plugin.name.as_str())),
            ("version", text(&plugin.version)),
            ("description", text(&plugin.description)),
            ("status", Term::atom(plugin.status.name())),
            ("since", milliseconds(plugin.since)),
            ("reason", Term::binary(&plugin.reason.detail)),
            ("reason_code", Term::atom(plugin.reason.code.name())),
            ("socket", path(&namespace.api_sock())),
            ("base_dir", path(namespace.base())),
            ("paths", paths),
            ("node", node),
            ("host", Term::binary(self.host.as_bytes())),
        ]
    }
}

/// The proxy of one plugin.
#[derive(Debug)]
pub struct Proxy {
    plugin: PluginName,
    registered: Registered,
    /// The name of our node, which is in the answer to requests that are meant for the plugin.
    node: Atom,
}

impl Proxy {
    /// Returns the proxy of `plugin` on our node `node`.
    #[must_use]
    pub fn new(plugin: PluginName, registered: Registered, node: Atom) -> Self {
        Self { plugin, registered, node }
    }

    /// Returns the groups of a plugin's proxy.
    #[must_use]
    pub fn groups(plugin: &PluginName) -> Vec<Term> {
        vec![Term::atom("hecate_plugins"), Term::tuple([Term::atom("hecate_plugin"), Term::binary(plugin.as_str())])]
    }
}

impl Behaviour for Proxy {
    fn call(&mut self, request: &Raw, _caller: &Caller, atoms: &mut Atoms) -> Answer {
        if request.term(atoms).is_ok_and(|request| request == Term::atom("info"))
            && let Some(plugin) = self.registered.view.borrow().plugins.get(&self.plugin)
        {
            return Answer::Now(self.registered.info(plugin));
        }
        let not_forwarded = Term::tuple([Term::atom("not_forwarded"), Term::Atom(self.node.clone())]);
        Answer::Now(Term::tuple([Term::atom("error"), not_forwarded]))
    }

    fn state(&self) -> Term {
        Term::binary(self.plugin.as_str())
    }
}
