//! The process registered as `hecate_plugins`. Erlang nodes call it to list, register and
//! deregister plugins, as they could over HTTP. It is our member of the group `hecate_daemons`.

use beam::connect::dial::Dialer;
use beam::etf::{Atoms, Raw, Term};
use beam::name::NodeName;
use beam::node::{Answer, Behaviour, Caller};
use tokio::sync::mpsc;

use crate::cluster::plugins::orders::{Order, queue_is_full};
use crate::cluster::plugins::proxy::Registered;
use crate::cluster::terms::{error, ok, text};
use crate::plugin::{Field, FieldValue, PluginName, RegistrationRequest};
use crate::registry::Refusal;

/// The registered name.
pub const NAME: &str = "hecate_plugins";
/// Its group.
pub const GROUP: &str = "hecate_daemons";

/// The process. Its calls and their answers:
///
/// - `list`: `{ok, [Info]}`
/// - `snapshot`: `{ok, #{revision => Revision, plugins => [Info]}}`, for followers of the events
/// - `{info, Name}`, `{register, Map}`, `{deregister, Name}`: `{ok, Info}` of that plugin
/// - any of them if it fails: `{error, {Code, Detail}}`, with the codes of the HTTP API
#[derive(Debug)]
pub struct PluginsServer {
    registered: Registered,
    orders: mpsc::Sender<Order>,
    dialer: Dialer,
}

impl PluginsServer {
    /// Returns the server of the plugins in `registered`. It sends requests that take time to
    /// `orders`. `dialer` decides which nodes are on this host.
    #[must_use]
    pub fn new(registered: Registered, orders: mpsc::Sender<Order>, dialer: Dialer) -> Self {
        Self { registered, orders, dialer }
    }

    fn list(&self) -> Term {
        let view = self.registered.view.borrow();
        ok(Term::List(view.plugins.values().map(|plugin| self.registered.info(plugin)).collect()))
    }

    fn snapshot(&self) -> Term {
        let view = self.registered.view.borrow();
        if !view.ready {
            // Stored statuses are not reliable until each plugin has been checked.
            return error("starting", "the daemon is starting and has not checked its plugins yet; try again");
        }
        ok(self.registered.snapshot(&view))
    }

    fn info(&self, name: &Term) -> Term {
        let name = match name_of(name) {
            Ok(name) => name,
            Err(wrong) => return wrong,
        };
        match self.registered.view.borrow().plugins.get(&name) {
            Some(plugin) => ok(self.registered.info(plugin)),
            None => {
                let refusal = Refusal::NotFound { name };
                error(refusal.code(), &refusal.to_string())
            }
        }
    }

    fn register(&self, request: &Term, caller: &Caller) -> Answer {
        let Term::Map(map) = request else {
            let example = "{register, Map} needs a map, such as #{name => <<\"hecate-traderd\">>}";
            return Answer::Now(error("not_an_object", example));
        };
        let given = |key| map.get_atom(key).map_or(FieldValue::Absent, text);
        let request = RegistrationRequest {
            name: given("name"),
            version: given("version"),
            description: given("description"),
            node: given("node"),
        };
        match request.check() {
            Ok(mut registration) => {
                // Without `node`, the plugin's node is the caller's, if that is on this host.
                if registration.node == Field::Absent
                    && let Ok(node) = NodeName::parse(caller.node.as_str())
                    && self.dialer.is_here(&node)
                {
                    registration.node = Field::Set(node);
                }
                self.order(Order::Register(caller.call, registration))
            }
            Err(wrong) => Answer::Now(error(wrong.code, &wrong.detail)),
        }
    }

    fn deregister(&self, name: &Term, caller: &Caller) -> Answer {
        match name_of(name) {
            Ok(name) => self.order(Order::Deregister(caller.call, name)),
            Err(wrong) => Answer::Now(wrong),
        }
    }

    fn order(&self, order: Order) -> Answer {
        match self.orders.try_send(order) {
            Ok(()) => Answer::Later,
            Err(_) => Answer::Now(queue_is_full()),
        }
    }
}

impl Behaviour for PluginsServer {
    fn call(&mut self, request: &Raw, caller: &Caller, atoms: &mut Atoms) -> Answer {
        let request = request.term(atoms);
        let (what, value) = match &request {
            Ok(Term::Atom(what)) => (what.as_str(), None),
            Ok(Term::Tuple(elements)) => match elements.as_slice() {
                [Term::Atom(what), value] => (what.as_str(), Some(value)),
                _ => ("", None),
            },
            _ => ("", None),
        };
        match (what, value) {
            ("list", None) => Answer::Now(self.list()),
            ("snapshot", None) => Answer::Now(self.snapshot()),
            ("info", Some(name)) => Answer::Now(self.info(name)),
            ("register", Some(map)) => self.register(map, caller),
            ("deregister", Some(name)) => self.deregister(name, caller),
            _ => {
                let detail = "unknown request; use list, snapshot, {info, Name}, {register, Map} or {deregister, Name}";
                Answer::Now(error("bad_request", detail))
            }
        }
    }

    /// The names of the plugins.
    fn state(&self) -> Term {
        let view = self.registered.view.borrow();
        Term::List(view.plugins.keys().map(|name| Term::binary(name.as_str())).collect())
    }
}

fn name_of(term: &Term) -> Result<PluginName, Term> {
    match text(term) {
        FieldValue::Text(name) => PluginName::parse(&name).map_err(|e| error(e.code(), &e.to_string())),
        FieldValue::Absent | FieldValue::Null | FieldValue::NotText => {
            Err(error("field_type", "a name is a binary, a string or an atom"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use beam::etf::{Atom, Map, work};
    use beam::node::CallId;
    use tokio::sync::watch;

    use super::*;
    use crate::cluster::plugins::orders::queue;
    use crate::layout::Home;
    use crate::limits;
    use crate::plugin::Registration;
    use crate::registry::View;

    fn server() -> (PluginsServer, mpsc::Receiver<Order>) {
        let (_, view) = watch::channel(Arc::new(View::default()));
        let cluster = watch::channel(Arc::default()).1;
        let registered = Registered { view, cluster, home: Home::new("/home".into()).unwrap(), host: "h".into() };
        let this_host = BTreeSet::from(["h".to_owned()]);
        let dialer = Dialer { epmd_port: 0, default_port: None, this_host, allowed_uids: BTreeSet::new() };
        let (orders, ordered) = queue();
        (PluginsServer::new(registered, orders, dialer), ordered)
    }

    fn call(server: &mut PluginsServer, node: &'static str, request: &Term) -> Answer {
        let caller = Caller { call: CallId::from(7), node: Atom::literal(node) };
        server.call(&Raw::encode(request), &caller, &mut Atoms::new())
    }

    fn pair(what: &'static str, value: Term) -> Term {
        Term::tuple([Term::atom(what), value])
    }

    fn map(pairs: &[(&'static str, Term)]) -> Term {
        let pairs = pairs.iter().map(|(key, value)| (Term::atom(key), value.clone())).collect();
        Term::Map(Map::new(pairs).unwrap())
    }

    fn refused(answer: &Answer, code: &'static str) -> bool {
        let Answer::Now(Term::Tuple(answer)) = answer else { return false };
        matches!(answer.as_slice(), [error, Term::Tuple(why)]
            if *error == Term::atom("error") && why.first() == Some(&Term::atom(code)))
    }

    #[test]
    fn a_registration_gets_the_callers_node_if_that_is_on_this_host() {
        let (mut server, mut ordered) = server();
        let mut register = |node, map: &Term| {
            assert_eq!(call(&mut server, node, &pair("register", map.clone())), Answer::Later);
            match ordered.try_recv().unwrap() {
                Order::Register(_, registration) => registration,
                other => panic!("{other:?}"),
            }
        };
        let set_node = |text: &str| Field::Set(text.parse().unwrap());
        for name in [Term::binary("a-bd"), Term::string("a-bd"), Term::atom("a-bd")] {
            let Registration { name, version, description, node } =
                register("p@h", &map(&[("name", name), ("version", Term::binary("1"))]));
            assert_eq!(
                (name.as_str(), version, description, node),
                ("a-bd", Field::Set("1".to_owned()), Field::Absent, set_node("p@h"))
            );
        }
        let named = |node| map(&[("name", Term::atom("a-bd")), ("node", node)]);
        assert_eq!(register("p@elsewhere", &map(&[("name", Term::atom("a-bd"))])).node, Field::Absent);
        assert_eq!(register("p@h", &named(Term::atom("q@h"))).node, set_node("q@h"));
        assert_eq!(register("p@h", &named(Term::atom("undefined"))).node, Field::Clear);
    }

    #[test]
    fn errors_have_the_codes_of_the_http_api() {
        let (mut server, _ordered) = server();
        for (request, code) in [
            (pair("register", Term::Int(1)), "not_an_object"),
            (pair("register", map(&[])), "name_missing"),
            (pair("register", map(&[("name", Term::Int(1))])), "field_type"),
            (pair("register", map(&[("name", Term::atom("a-bd")), ("node", Term::atom("x"))])), "node_malformed"),
            (
                pair("register", map(&[("name", Term::atom("a-bd")), ("version", Term::binary("1\u{202e}"))])),
                "field_bad_character",
            ),
            (pair("deregister", Term::Int(1)), "field_type"),
            (pair("info", Term::atom("a-bd")), "not_found"),
            (pair("purge", Term::atom("a-bd")), "bad_request"),
            // The registry has not checked the plugins yet.
            (Term::atom("snapshot"), "starting"),
            (Term::Int(1), "bad_request"),
        ] {
            let answer = call(&mut server, "p@h", &request);
            assert!(refused(&answer, code), "{request:?}: {answer:?}");
        }
    }

    #[test]
    fn requests_cost_n_log_n() {
        let keys = |n: usize| {
            let pairs = (0..n).map(|i| (Term::binary((i * 7919 % 8192).to_string()), Term::Int(1)));
            Term::Map(Map::new(pairs.collect()).unwrap())
        };
        let texts = |n: usize| Term::List(vec![Term::Int(97); n]);
        let kinds: [(&str, &dyn Fn(usize) -> Term); 4] = [
            ("register, many fields", &|n| pair("register", keys(n))),
            ("register, a long name", &|n| pair("register", map(&[("name", texts(n))]))),
            ("info", &|n| pair("info", texts(n))),
            ("deregister", &|n| pair("deregister", texts(n))),
        ];
        for (what, request) in kinds {
            work::assert_n_log_n(what, 1000, |n| {
                let ((mut server, _ordered), request) = (server(), Raw::encode(&request(n)));
                let caller = Caller { call: CallId::from(7), node: Atom::literal("p@h") };
                work::of(|| drop(server.call(&request, &caller, &mut Atoms::new())))
            });
        }
    }

    #[test]
    fn a_full_queue_refuses_new_calls() {
        let (mut server, _ordered) = server();
        let deregister = pair("deregister", Term::atom("a-bd"));
        for _ in 0..limits::ORDERS {
            assert_eq!(call(&mut server, "p@h", &deregister), Answer::Later);
        }
        assert!(refused(&call(&mut server, "p@h", &deregister), "system_limit"));
    }
}
