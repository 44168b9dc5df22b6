//! Hosts on one network, each a network namespace with an EPMD, a daemon and a real Erlang node
//! with long names. They form one cluster from a list of peers, are cut from each other in several
//! ways, and recover. Run as root: `cargo test --features system-tests --test hosts`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::daemon::Daemon;
use support::erl::{Erl, Start};
use support::network::{Network, Wire, lose, lose_no_more};
use support::{Host, Process, epmd, program, wait_within};

/// The time until all nodes see each other, after the last start or the end of a cut. It covers a
/// few failed attempts with growing delays, and a round that finds unconnected nodes.
const WHOLE: Duration = Duration::from_secs(40);
/// The time to notice a loss: `net_ticktime` is 8 s for all, and an Erlang node may take a quarter
/// longer.
const NOTICED: Duration = Duration::from_secs(20);
const TICK_TIME: &str = "8";

/// The number of the host that is named by a host name, whatever its address. The others are named
/// by their addresses.
const NAMED: u8 = 4;
const NAME: &str = "h4.lab";

/// The view of an Erlang node: its connections, and the members of each group.
const SEEN: &str = "{lists:sort([node() | nodes()]), \
                    [{G, lists:sort([{node(P), term_to_binary(P)} || P <- pg:get_members(G)])} \
                     || G <- lists:sort(pg:which_groups())]}";
/// The number of memberships in that view.
const COUNTED: &str = "lists:sum([length(pg:get_members(G)) || G <- pg:which_groups()])";

struct Place {
    number: u8,
    /// The host part of the node names.
    name: String,
    network: Network,
    host: Host,
    epmd: Process,
    daemon: Daemon,
    erl: Erl,
}

struct Lab {
    wire: Wire,
    /// The `/etc/hosts` of all hosts.
    names: PathBuf,
    places: Vec<Place>,
    /// The directory of everything else.
    _shared: Host,
}

fn address(number: u8) -> String {
    format!("10.79.0.{number}")
}

fn start_epmd(network: &Network, port: u16) -> Process {
    let mut command = Command::new("epmd");
    command.args(["-port", &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = network.inside(|| Process::start(&mut command, "Install erlang-base"));
    wait_within(NOTICED, "EPMD answers", || network.inside(|| epmd::connect(port).is_ok()).then_some(()));
    process
}

impl Lab {
    /// Starts four hosts, whose daemons are configured with the first two.
    fn new() -> Self {
        let shared = Host::new();
        let names = shared.home().join("hosts");
        let mut lab = Self { wire: Wire::new(), names, places: Vec::new(), _shared: shared };
        lab.is_at(&address(NAMED));
        for number in 1..=NAMED {
            let place = lab.place(number);
            lab.places.push(place);
        }
        lab.whole("the last has started");
        lab
    }

    /// Sets the address of the host that has a name.
    fn is_at(&self, address: &str) {
        std::fs::write(&self.names, format!("127.0.0.1 localhost\n{address} {NAME}\n")).unwrap();
    }

    fn place(&self, number: u8) -> Place {
        let (network, mut host) = (Network::new(), Host::new());
        self.wire.plug(&network, number);
        network.ip(&format!("address add {}/24 dev us", address(number)));
        host.name = if number == NAMED { NAME.to_owned() } else { address(number) };
        (host.cookie, host.epmd_port) = (self._shared.cookie.clone(), self._shared.epmd_port);
        let epmd = start_epmd(&network, host.epmd_port);

        let mount = format!("{} --bind {} /etc/hosts", program("mount"), self.names.display());
        let through = ["unshare", "--mount", "sh", "-c", &format!("{mount}; exec \"$0\" \"$@\"")];
        let (name, ticks) = (host.node(&format!("hecate_p{number}d")), ["-kernel", "net_ticktime", TICK_TIME]);
        let start = || Start { name: Some(&name), through: &through, args: &ticks, ..Start::default() };
        let mut erl = network.inside(|| Erl::start(&host, start()));
        erl.eval("{ok, _} = pg:start_link(), ok");
        erl.eval(&format!("ok = pg:join(workers, self()), ok = pg:join({{worker, {number}}}, self())"));

        let by = [&program("unshare"), "--mount", "/bin/sh", "-c", &format!("{mount}; exec \"$0\"")];
        let peers = format!("{},hecate@{}", address(1), address(2));
        let environment =
            [("HECATE_HOSTNAME", &*host.name), ("HECATE_CLUSTER_PEERS", &peers), ("HECATE_NET_TICKTIME", TICK_TIME)];
        let daemon = network.inside(|| Daemon::start_as(&host, &by, &environment));
        assert_eq!(daemon.ready(), host.node("hecate"));
        host.register_named(&format!("hecate-p{number}d"));
        Place { number, name: host.name.clone(), network, host, epmd, daemon, erl }
    }

    fn at(&mut self, number: u8) -> &mut Place {
        &mut self.places[usize::from(number) - 1]
    }

    /// Waits until all nodes have the same complete view.
    fn whole(&mut self, since: &str) {
        let begun = Instant::now();
        loop {
            match self.differs() {
                None => break,
                Some(differs) => assert!(begun.elapsed() < WHOLE, "not whole after {WHOLE:?}: {differs}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("whole {:.1} s after {since}", begun.elapsed().as_secs_f32());
    }

    /// Returns the first difference from the complete view.
    fn differs(&mut self) -> Option<String> {
        let nodes: BTreeSet<String> = self.places.iter().flat_map(Place::nodes).collect();
        let all: Vec<String> = nodes.iter().map(|node| format!("'{node}'")).collect();
        let (all, mut first) = (format!("{{[{}],", all.join(",")), None);
        for place in &mut self.places {
            let (name, connected) = (&place.name, place.connected());
            if connected != nodes {
                return Some(format!("the daemon of {name} sees {connected:?}"));
            }
            let seen = (place.erl.eval(SEEN).replace(['\n', ' '], ""), place.erl.eval(COUNTED));
            if !seen.0.starts_with(&all) || seen != *first.get_or_insert_with(|| seen.clone()) {
                return Some(format!("the node of {name} sees {seen:?}, and the first {first:?}"));
            }
            let counted = place.counted().to_string();
            if counted != seen.1 {
                return Some(format!("the daemon of {name} sees {counted} members, and its node {}", seen.1));
            }
        }
        None
    }

    /// Waits until the daemons of two hosts have lost each other.
    fn apart(&mut self, a: u8, b: u8) {
        for (one, other) in [(a, b), (b, a)] {
            let lost = self.at(other).nodes();
            let place = self.at(one);
            let what = format!("{} has lost {lost:?}", place.name);
            wait_within(NOTICED, &what, || place.connected().is_disjoint(&lost).then_some(()));
        }
    }

    /// Drops what one host sends to another.
    fn cut(&mut self, from: u8, to: u8) {
        lose(&self.at(from).network, &address(to));
    }

    fn heal(&mut self, from: u8, to: u8) {
        lose_no_more(&self.at(from).network, &address(to));
    }
}

impl Place {
    /// Returns the names of the two nodes.
    fn nodes(&self) -> BTreeSet<String> {
        BTreeSet::from([self.host.node("hecate"), self.host.node(&format!("hecate_p{}d", self.number))])
    }

    /// Returns the daemon's connected nodes and the daemon itself.
    fn connected(&self) -> BTreeSet<String> {
        let cluster = self.host.ask("GET", "/api/cluster").body;
        let peers = cluster["peers"].as_array().expect("peers");
        let connected = peers.iter().filter(|peer| peer["state"] == "connected");
        let connected = connected.map(|peer| peer["name"].as_str().expect("a name").to_owned());
        connected.chain([self.host.node("hecate")]).collect()
    }

    /// Returns since when the daemon is connected to a node.
    fn since(&self, node: &str) -> Option<Value> {
        let cluster = self.host.ask("GET", "/api/cluster").body;
        let mut peers = cluster["peers"].as_array().expect("peers").iter();
        let peer = peers.find(|peer| peer["name"] == node && peer["state"] == "connected")?;
        Some(peer["since"].clone())
    }

    /// Returns the number of memberships that the daemon sees.
    fn counted(&self) -> u64 {
        let cluster = self.host.ask("GET", "/api/cluster").body;
        let count = |what: &str| cluster["scopes"][0][what].as_u64().unwrap_or_else(|| panic!("{what}: {cluster}"));
        count("own_members") + count("peer_members")
    }
}

#[test]
fn the_cluster_recovers_from_a_cut_link_a_one_way_cut_and_a_new_epmd() {
    let mut lab = Lab::new();
    lab.cut(1, 2);
    lab.cut(2, 1);
    lab.apart(1, 2);
    lab.heal(1, 2);
    lab.heal(2, 1);
    lab.whole("a link was cut");

    lab.cut(NAMED, 3);
    lab.apart(NAMED, 3);
    lab.heal(NAMED, 3);
    lab.whole("what went one way was lost");

    // Both nodes of the host register again, so the others can dial them.
    let place = lab.at(2);
    place.epmd.kill();
    place.epmd = start_epmd(&place.network, place.host.epmd_port);
    let port = place.host.epmd_port;
    let names = || place.network.inside(|| epmd::names(port));
    wait_within(NOTICED, "both are registered again", || (names().len() == 2).then_some(()));
    // The node disconnects from all others, and dials its daemon. Its daemon introduces it, and the
    // others' daemons dial it.
    place.erl.eval("global:disconnect()");
    place.erl.eval_until(&format!("net_adm:ping('{}')", place.host.node("hecate")), "pong", NOTICED);
    lab.whole("an EPMD was another");
}

#[test]
fn the_cluster_recovers_from_a_cut_host_a_split_and_a_new_address() {
    let mut lab = Lab::new();
    lab.wire.unplug(3);
    for other in [1, 2, NAMED] {
        lab.apart(3, other);
    }
    lab.wire.plug_again(3);
    lab.whole("a host was cut");

    let across = [(1, 3), (1, NAMED), (2, 3), (2, NAMED)];
    for (one, other) in across {
        lab.cut(one, other);
        lab.cut(other, one);
    }
    for (one, other) in across {
        lab.apart(one, other);
    }
    for (one, other) in across {
        lab.heal(one, other);
        lab.heal(other, one);
    }
    lab.whole("one half was cut from the other");

    // The nodes keep their names, so the others find them at the new address.
    let (old, new) = (address(NAMED), address(14));
    let named = lab.at(NAMED).nodes();
    let others = &lab.places[..usize::from(NAMED) - 1];
    let since = |place: &Place| named.iter().map(|node| (node.clone(), place.since(node).unwrap())).collect();
    let nodes: Vec<Vec<(String, Value)>> = others.iter().map(since).collect();
    let creation = lab.at(NAMED).erl.eval("erlang:system_info(creation)");
    lab.at(NAMED).network.ip(&format!("address delete {old}/24 dev us"));
    lab.at(NAMED).network.ip(&format!("address add {new}/24 dev us"));
    lab.is_at(&new);
    // Each connection is a new one, which may start before the last old one has ended.
    for (nodes, place) in nodes.iter().zip(&lab.places) {
        let all_new = || nodes.iter().all(|(node, since)| place.since(node).is_some_and(|now| now != *since));
        wait_within(NOTICED + WHOLE, "each connection is a new one", || all_new().then_some(()));
    }
    lab.whole("each connection is a new one, as an address has changed");
    assert_eq!(lab.at(NAMED).erl.eval("erlang:system_info(creation)"), creation, "it is the same node as before");
    for place in &lab.places {
        assert_eq!(place.host.plugin(&format!("hecate-p{}d", place.number))["status"], Value::from("running"));
        assert!(place.daemon.log_lines(&["panicked"]).is_empty());
    }
}
