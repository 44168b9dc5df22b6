//! Daemons that find each other by the addresses of one DNS name, as pods behind a headless service
//! do. Each host is a network namespace with its own EPMD and uses the system's resolver. Run as
//! root: `cargo test --features system-tests --test dns`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod support;

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use support::daemon::Daemon;
use support::dns::{self, Dns, Zone};
use support::erl::{Erl, Start};
use support::network::Network;
use support::{Host, PATIENCE, Process, program, wait_for, wait_within};

/// Hosts on one network, and their DNS server.
struct Lab {
    wire: Network,
    dns: Dns,
    cookie: String,
    epmd_port: u16,
}

/// The address of the DNS server.
const SERVER: &str = "10.78.0.254";

impl Lab {
    fn new() -> Self {
        let wire = Network::new();
        wire.ip("link add wire type bridge");
        wire.ip(&format!("address add {SERVER}/24 dev wire"));
        wire.ip("link set wire up");
        let dns = wire.inside(|| Dns::start(SERVER.parse().unwrap()));
        let host = Host::new();
        Self { wire, dns, cookie: host.cookie.clone(), epmd_port: host.epmd_port }
    }

    /// Creates the host with this number, which is the last part of its addresses.
    fn place(&self, number: u8) -> Place {
        let network = Network::new();
        self.wire.ip(&format!("link add port{number} type veth peer name us netns {}", network.id()));
        self.wire.ip(&format!("link set port{number} master wire up"));
        let (v4, v6) = (format!("10.78.0.{number}"), format!("fd00:78::{number}"));
        network.ip(&format!("address add {v4}/24 dev us"));
        network.ip(&format!("address add {v6}/64 dev us nodad"));
        network.ip("link set us up");
        let mut host = Host::new();
        (host.cookie, host.epmd_port) = (self.cookie.clone(), self.epmd_port);
        let etc = dns::etc(host.home(), SERVER.parse().unwrap()).to_str().unwrap().to_owned();
        Place { network, host, v4, v6, etc }
    }
}

/// One host.
struct Place {
    network: Network,
    host: Host,
    v4: String,
    v6: String,
    etc: String,
}

impl Place {
    /// Starts the daemon, whose node name contains this address.
    fn daemon(&self, address: &str, more: &[(&str, &str)]) -> Daemon {
        let any = if address.parse::<IpAddr>().unwrap().is_ipv4() { "0.0.0.0" } else { "::" };
        let mount = format!("set -e; {} --bind {} /etc; exec \"$0\"", program("mount"), self.etc);
        let by = [&program("unshare"), "--mount", "/bin/sh", "-c", &mount];
        let own = [("HECATE_HOSTNAME", address), ("HECATE_LISTEN", any), ("HECATE_CLUSTER_DNS", "hecate.svc")];
        let environment: Vec<_> = own.iter().chain(more).copied().collect();
        let daemon = self.network.inside(|| Daemon::start_as(&self.host, &by, &environment));
        assert_eq!(daemon.ready(), format!("hecate@{address}"));
        daemon
    }

    fn is_connected(&self, address: &str) -> bool {
        self.host.peer(&format!("hecate@{address}")).as_deref() == Some("connected")
    }

    fn knows(&self, address: &str) -> bool {
        self.host.peer(&format!("hecate@{address}")).is_some()
    }
}

#[test]
fn daemons_find_each_other_by_dns_and_forget_removed_addresses() {
    let lab = Lab::new();
    let [a, b, c, d] = [1, 2, 3, 4].map(|number| lab.place(number));
    // The name has no addresses when they start. The third daemon is named after its other address.
    let at_a = a.daemon(&a.v4, &[]);
    let at_b = b.daemon(&b.v4, &[]);
    let at_c = c.daemon(&c.v6, &[]);
    // Now the name has both addresses of all hosts but the third.
    lab.dns.names(&[&a.v4, &a.v6, &b.v4, &b.v6, &c.v6]);
    for (one, other) in [(&a, &b.v4), (&a, &c.v6), (&b, &a.v4), (&b, &c.v6), (&c, &a.v4), (&c, &b.v4)] {
        wait_for("the daemons are connected", || one.is_connected(other));
    }
    // A real node replaces the second daemon.
    at_b.kill();
    let epmd_port = lab.epmd_port.to_string();
    let _epmd =
        d.network.inside(|| Process::start(Command::new("epmd").args(["-port", &epmd_port]), "Install erlang-base"));
    let name = format!("hecate@{}", d.v4);
    let mut at_d: Erl = d.network.inside(|| {
        wait_for("EPMD answers", || support::epmd::connect(lab.epmd_port).is_ok());
        d.host.erl(&name)
    });
    lab.dns.names(&[&a.v4, &a.v6, &c.v6, &d.v4]);
    let both = format!("lists:sort(nodes()) =:= lists:sort(['hecate@{}', 'hecate@{}'])", a.v4, c.v6);
    at_d.eval_until(&both, "true", PATIENCE);
    wait_for("the other daemon shows the node", || a.is_connected(&d.v4));
    // For a while, no address is removed if the server does not answer or answers that there is
    // none. The latter was the case at the start, too.
    lab.dns.set(Zone::Silence);
    wait_for("DNS has failed again", || at_a.log_lines(&["WARN", "hecate.svc", "no address"]).len() == 2);
    assert!(a.is_connected(&d.v4) && a.is_connected(&c.v6) && a.knows(&b.v4));
    lab.dns.names(&[&a.v4, &c.v6, &d.v4]);
    wait_for("DNS works again", || at_a.log_lines(&["INFO", "hecate.svc", "has addresses again"]).len() == 2);
    // The daemon no longer dials the second one, and finally forgets it.
    for place in [&a, &c] {
        wait_within(Duration::from_secs(100), "the daemon forgets the address", || (!place.knows(&b.v4)).then_some(()));
        assert!(place.is_connected(&d.v4));
    }
    // Two addresses of a node, or of the daemon itself, cause no log lines.
    for daemon in [at_a, at_c] {
        let (_, _, log) = daemon.terminate();
        let odd =
            |line: &&str| line.contains("not connected") && (line.contains("mismatch") || line.contains("not_allowed"));
        assert_eq!(log.lines().filter(odd).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[test]
fn a_peer_without_a_node_name_means_the_node_hecate() {
    let lab = Lab::new();
    let [a, b] = [1, 2].map(|number| lab.place(number));
    // The list is the same on all hosts, and exists before the second host does.
    let peers = [("HECATE_CLUSTER_PEERS", format!("{},{}", a.v4, b.v6))];
    let peers = peers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let at_a = a.daemon(&a.v4, &peers);
    at_a.logs(&[&format!("hecate@{}", b.v6), "epmd_unreachable"]);
    let _at_b = b.daemon(&b.v6, &[]);
    wait_for("the daemons are connected", || a.is_connected(&b.v6) && b.is_connected(&a.v4));
    assert!(at_a.log_lines(&[&format!("hecate@{}", a.v4), "not connected"]).is_empty(), "the daemon dialled itself");
}

#[test]
fn a_diagnosis_distinguishes_failed_dns_from_an_unknown_host() {
    let lab = Lab::new();
    let place = lab.place(1);
    let _daemon = place.daemon(&place.v4, &[]);
    for (zone, advice) in [(Zone::Addresses(Vec::new()), "or to the DNS"), (Zone::Failure, "/etc/resolv.conf")] {
        lab.dns.set(zone);
        let answer = place.host.ask("GET", "/api/cluster/peers/x@far.lab/diagnosis");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["code"], "host_unresolved", "{}", answer.body);
        assert!(answer.body["verdict"].as_str().expect("verdict").contains(advice), "{}", answer.body);
    }
}

#[test]
fn names_that_do_not_resolve_do_not_delay_other_peers() {
    let lab = Lab::new();
    let place = lab.place(1);
    lab.dns.set(Zone::Silence);
    // The daemon dials a limited number of nodes at once, and each attempt takes time, so these
    // peers keep the daemon busy for a while.
    let far: Vec<String> = (0..250).map(|i| format!("far{i}.lab")).collect();
    let mut node = place.network.inside(|| Erl::start(&place.host, Start::default()));
    let more = [("HECATE_CLUSTER_PEERS", far.join(",")), ("HECATE_LOG", "info,beam::node=debug".to_owned())];
    let daemon = place.daemon(&place.v4, &more.each_ref().map(|(name, value)| (*name, value.as_str())));
    node.eval(&format!(
        "{{ok, _}} = net_kernel:start(['hecate_traderd@{}', longnames]), erlang:set_cookie(node(), '{}')",
        place.v4, lab.cookie
    ));
    node.eval_until(&format!("nodes() =:= ['hecate@{}']", place.v4), "true", PATIENCE);
    let tried = far.iter().filter(|far| !daemon.log_lines(&[&format!("hecate@{far} "), "host_unresolved"]).is_empty());
    let tried = tried.count();
    assert!(tried < 200, "{tried}: the existing node was dialled after all others");
    daemon.logs(&["host_unresolved", "timed out"]);
}
