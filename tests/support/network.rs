//! Networks of their own, each a namespace, and hosts on one wire that see each other until somebody cuts them apart. Needs root.

use std::fs::File;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Process, wait_for};

/// A network, which lives as long as the process in it.
pub struct Network(Process);

impl Network {
    /// One that has nothing but its loopback.
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests make namespaces: run them as root, in a container");
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let holder = Process::start(Command::new("unshare").args(["--net", "sleep", "infinity"]), "Install util-linux");
        let path = format!("/proc/{}/ns/net", holder.id());
        wait_for("it has a network", || std::fs::read_link(&path).is_ok_and(|its| its != ours));
        let network = Self(holder);
        network.ip("link set lo up");
        network
    }

    /// The pid of the process in it.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Has `ip` change something in it.
    pub fn ip(&self, arguments: &str) {
        let status = self.inside(|| Command::new("ip").args(arguments.split(' ')).status());
        assert!(status.expect("install iproute2").success(), "ip {arguments}");
    }

    /// What is started by this is in the network.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.0.id());
        let enter = || {
            let network = File::open(path).unwrap();
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }
}

/// A wire that networks are plugged into.
pub struct Wire(Network);

impl Wire {
    pub fn new() -> Self {
        let wire = Network::new();
        wire.ip("link add wire type bridge");
        wire.ip("link set wire up");
        Self(wire)
    }

    /// Plugs a network in; its end is called `us`, and ours by the number.
    pub fn plug(&self, network: &Network, number: u8) {
        self.0.ip(&format!("link add port{number} type veth peer name us netns {}", network.id()));
        self.0.ip(&format!("link set port{number} master wire up"));
        network.ip("link set us up");
    }

    /// Takes the plug out: nothing comes or goes, which nobody is told.
    pub fn unplug(&self, number: u8) {
        self.0.ip(&format!("link set port{number} nomaster"));
    }

    /// Puts it in again.
    pub fn plug_again(&self, number: u8) {
        self.0.ip(&format!("link set port{number} master wire"));
    }
}

/// What a network sends to this address is lost on the way: it goes to a network card that nobody has.
pub fn lose(from: &Network, to: &str) {
    from.ip(&format!("neighbour replace {to} lladdr 02:00:00:00:00:99 dev us nud permanent"));
}

/// It arrives again.
pub fn lose_no_more(from: &Network, to: &str) {
    from.ip(&format!("neighbour delete {to} dev us"));
}
