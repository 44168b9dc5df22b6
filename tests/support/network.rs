//! Network namespaces, and hosts on one virtual network that can be cut off from it. Needs root.

use std::fs::File;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Process, wait_for};

/// A network namespace, which exists as long as its process.
pub struct Network(Process);

impl Network {
    /// Makes a network that has only a loopback interface.
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests make namespaces: run them as root in a container");
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let holder = Process::start(Command::new("unshare").args(["--net", "sleep", "infinity"]), "Install util-linux");
        let path = format!("/proc/{}/ns/net", holder.id());
        wait_for("the process has its own network namespace", || {
            std::fs::read_link(&path).is_ok_and(|its| its != ours)
        });
        let network = Self(holder);
        network.ip("link set lo up");
        network
    }

    /// Returns the pid of the process in the namespace.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Runs `ip` in the namespace.
    pub fn ip(&self, arguments: &str) {
        let status = self.inside(|| Command::new("ip").args(arguments.split(' ')).status());
        assert!(status.expect("install iproute2").success(), "ip {arguments}");
    }

    /// Runs `work` in the namespace. Programs that it starts stay there.
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

/// A virtual switch that networks are plugged into.
pub struct Wire(Network);

impl Wire {
    pub fn new() -> Self {
        let wire = Network::new();
        wire.ip("link add wire type bridge");
        wire.ip("link set wire up");
        Self(wire)
    }

    /// Connects a network to the switch. The network's end is named `us`, and the switch's end has
    /// the number in its name.
    pub fn plug(&self, network: &Network, number: u8) {
        self.0.ip(&format!("link add port{number} type veth peer name us netns {}", network.id()));
        self.0.ip(&format!("link set port{number} master wire up"));
        network.ip("link set us up");
    }

    /// Disconnects a network. Neither end is notified.
    pub fn unplug(&self, number: u8) {
        self.0.ip(&format!("link set port{number} nomaster"));
    }

    /// Connects a network again.
    pub fn plug_again(&self, number: u8) {
        self.0.ip(&format!("link set port{number} master wire"));
    }
}

/// Makes packets from a network to this address disappear, by a neighbour entry with an unused
/// hardware address.
pub fn lose(from: &Network, to: &str) {
    from.ip(&format!("neighbour replace {to} lladdr 02:00:00:00:00:99 dev us nud permanent"));
}

/// Undoes [`lose`].
pub fn lose_no_more(from: &Network, to: &str) {
    from.ip(&format!("neighbour delete {to} dev us"));
}
