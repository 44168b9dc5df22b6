//! The process that stands for one running plugin in pg: answers `info`, forwards nothing.

use std::sync::Arc;

use beam::etf::{Atom, Atoms, Raw, Term};
use beam::node::{Answer, Behaviour, Caller};
use tokio::sync::watch;

use crate::cluster::terms::{integer, map, milliseconds, undefined};
use crate::cluster::view::{ClusterView, NodeState};
use crate::layout::Home;
use crate::plugin::{Event, EventKind, Plugin, PluginName};
use crate::registry::View;

/// What Erlang nodes see of a plugin is made from this.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The registry as it is.
    pub view: watch::Receiver<Arc<View>>,
    /// The cluster as our node sees it.
    pub cluster: watch::Receiver<Arc<ClusterView>>,
    /// Where namespaces are.
    pub home: Home,
    /// The host part of our node name.
    pub host: Arc<str>,
}

impl Registered {
    /// The map that `gen_server:call(Member, info)` gives: text as binaries, what is unset as `undefined`, `status`,
    /// `reason_code` and `node` as atoms, times in milliseconds since 1970. Only a plugin that has a node has the key
    /// `node_state`, and only with a failure `node_failure`.
    #[must_use]
    pub fn info(&self, plugin: &Plugin) -> Term {
        map(self.fields(plugin).into_iter().chain(self.node_state(plugin)))
    }

    /// All that is registered, as it was at one revision: what an event of a later one changes.
    #[must_use]
    pub fn snapshot(&self, view: &View) -> Term {
        let plugins = view.plugins.values().map(|plugin| self.info(plugin)).collect();
        map([("revision", integer(view.revision)), ("plugins", Term::List(plugins))])
    }

    /// The map that goes with an event to the group of its name: that of [`Self::info`], and the event's own `revision` and
    /// `at`.
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
    /// Our own name, told to whoever takes the proxy for the plugin itself.
    node: Atom,
}

impl Proxy {
    /// The proxy of `plugin` on our node `node`.
    #[must_use]
    pub fn new(plugin: PluginName, registered: Registered, node: Atom) -> Self {
        Self { plugin, registered, node }
    }

    /// The groups that a running plugin's proxy is in.
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
