//! Checks that the daemon listens on the TCP ports that `docs/security.md` names, and on no other.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

use super::support::Host;

/// Returns the addresses and ports of the TCP sockets on which a process listens.
fn listening(pid: u32) -> BTreeSet<(IpAddr, u16)> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let sockets: BTreeSet<String> = files
        .filter_map(|file| fs::read_link(file.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = fields[1].split_once(':').unwrap();
        // 0A is LISTEN.
        (fields[3] == "0A" && sockets.contains(fields[9]))
            .then(|| (ip(address), u16::from_str_radix(port, 16).unwrap()))
    };
    lines.filter_map(of_line).collect()
}

/// Reads an address of the kernel's tables: words of four bytes in the order of the machine.
fn ip(hex: &str) -> IpAddr {
    let words = (0..hex.len()).step_by(8).map(|at| u32::from_str_radix(&hex[at..at + 8], 16).unwrap());
    let bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
    match <[u8; 16]>::try_from(&*bytes) {
        Ok(bytes) => Ipv6Addr::from(bytes).into(),
        Err(_) => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap()).into(),
    }
}

#[test]
fn only_the_distribution_port_and_epmd_listen_and_both_can_be_restricted() {
    let everywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let cases = [
        (&[][..], everywhere[0], everywhere),
        (&[("HECATE_LISTEN", "127.0.0.1")], loopback[0], loopback),
        (&[("ERL_EPMD_ADDRESS", "127.0.0.1")], everywhere[0], loopback),
    ];
    for (environment, distribution, epmd) in cases {
        let host = Host::new();
        // There is no `epmd` to start, so that it serves one itself.
        let daemon = host.daemon(environment);
        daemon.ready();
        let listening = listening(daemon.id());
        let (of_epmd, others): (Vec<_>, Vec<_>) = listening.into_iter().partition(|(_, port)| *port == host.epmd_port);
        let addresses = |found: &[(IpAddr, u16)]| found.iter().map(|(ip, _)| *ip).collect::<Vec<_>>();
        assert_eq!(addresses(&of_epmd), epmd, "{environment:?}");
        assert_eq!(addresses(&others), [distribution], "{environment:?}");
    }
}

#[test]
fn a_fixed_distribution_port_is_registered_with_epmd_too() {
    let host = Host::new();
    let epmd = host.epmd();
    // A port that is free now. If another process binds it first, the test fails.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let daemon = host.daemon(&[("ERL_DIST_PORT", &port.to_string()), ("HECATE_LISTEN", "127.0.0.1")]);
    daemon.ready();
    assert_eq!(listening(daemon.id()), BTreeSet::from([(Ipv4Addr::LOCALHOST.into(), port)]));
    assert_eq!(epmd.port_of("hecate"), port);
}
