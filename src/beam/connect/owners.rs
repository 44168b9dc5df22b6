//! Finds the users who own listening sockets and ends of connections on this host, from the tables
//! of the kernel.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};

use crate::connect::sock_diag::{self, Listening};
use crate::connect::socket_holder::{Holder, holders};

/// Returns the users whose sockets accept connections to an address of this host; empty if unknown.
/// Blocks for a moment.
#[must_use]
pub fn owners(address: SocketAddr) -> Vec<u32> {
    sockets(address).into_iter().map(|socket| socket.uid).collect()
}

/// Returns the users whose sockets accept connections to an address of this host. Each user comes
/// with the process that has the socket open, if the kernel shows the process. Blocks for a moment.
#[must_use]
pub fn owning_processes(address: SocketAddr) -> BTreeSet<(u32, Option<Holder>)> {
    let sockets = sockets(address);
    let holders = holders(&sockets.iter().map(|socket| socket.inode).collect());
    sockets.into_iter().map(|socket| (socket.uid, holders.get(&socket.inode).cloned())).collect()
}

fn sockets(address: SocketAddr) -> Vec<Listening> {
    // Some kernels do not support the query. All have the tables.
    if let Some(listeners) = sock_diag::listeners(address.port()) {
        let accepts = |ip: IpAddr| ip.is_unspecified() || ip.to_canonical() == address.ip().to_canonical();
        return listeners.into_iter().filter(|(ip, _)| accepts(*ip)).map(|(_, socket)| socket).collect();
    }
    let of = |path| File::open(path).map(|table| listeners(BufReader::new(table), address)).unwrap_or_default();
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().flat_map(of).collect()
}

/// Returns the user who owns the socket with the address `theirs` that is connected to `ours`.
/// Returns `None` if the socket is not on this host or its owner is unknown. Blocks for a moment.
#[must_use]
pub(crate) fn owner_of_end(theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let of = |path| end(BufReader::new(File::open(path).ok()?), theirs, ours);
    if !is_here(theirs, ours) {
        return None;
    }
    sock_diag::owner(theirs, ours).or_else(|| ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().find_map(of))
}

/// Returns the same with one query to the kernel, which is fast enough for each incoming
/// connection.
#[must_use]
pub(crate) fn user_of_end(theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    is_here(theirs, ours).then(|| sock_diag::owner(theirs, ours)).flatten()
}

/// Returns whether the other end is on this host. The kernel's tables have only sockets of this
/// host.
fn is_here(theirs: SocketAddr, ours: SocketAddr) -> bool {
    let theirs = theirs.ip().to_canonical();
    theirs.is_loopback() || theirs == ours.ip().to_canonical()
}

/// Returns the owner of the socket that connects these two addresses, which are the second and
/// third columns of the table.
fn end(table: impl BufRead, theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let written =
        |address: SocketAddr| column(address.ip()).into_iter().map(move |ip| format!("{ip}:{:04X}", address.port()));
    let (local, remote): (Vec<_>, Vec<_>) = (written(theirs).collect(), written(ours).collect());
    table.lines().map_while(Result::ok).find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let is_it = columns.next().is_some_and(|end| local.iter().any(|local| local == end))
            && columns.next().is_some_and(|end| remote.iter().any(|remote| remote == end));
        if is_it { columns.nth(4)?.parse().ok() } else { None }
    })
}

/// Returns all sockets that accept connections to an address, from a table in the format of
/// `/proc/net/tcp` (proc(5)). The second column is `address:port` in hexadecimal, the fourth is the
/// state (0A: listening), the eighth is the uid, and the tenth is the inode.
///
/// Listening sockets come first (`listening_get_first` before `established_get_first` in
/// `net/ipv4/tcp_ipv4.c`), so the rest of the table, which may be long, is not read.
fn listeners(table: impl BufRead, address: SocketAddr) -> Vec<Listening> {
    let ours = column(address.ip());
    let socket = |line: String| {
        let mut columns = line.split_ascii_whitespace();
        let (local, port) = columns.nth(1)?.rsplit_once(':')?;
        let state = columns.nth(1)?;
        let (uid, inode) = (columns.nth(3)?, columns.nth(1)?);
        let accepts = ours.iter().any(|ours| ours == local) || local.bytes().all(|digit| digit == b'0');
        let listens = state == "0A" && u16::from_str_radix(port, 16) == Ok(address.port());
        (accepts && listens).then_some(Listening { uid: uid.parse().ok()?, inode: inode.parse().ok()? })
    };
    let listens = |line: &String| line.split_ascii_whitespace().nth(3).is_none_or(|state| state == "0A");
    table.lines().map_while(Result::ok).skip(1).take_while(listens).filter_map(socket).collect()
}

/// Formats an address as `/proc/net/tcp` and `tcp6` do: words of 32 bits in the byte order of the
/// machine.
fn column(ip: IpAddr) -> Vec<String> {
    let word = |bytes: &[u8]| format!("{:08X}", bytes.try_into().map_or(0, u32::from_ne_bytes));
    let words = |octets: [u8; 16]| octets.chunks(4).map(word).collect::<String>();
    match ip {
        IpAddr::V4(v4) => vec![word(&v4.octets()), words(v4.to_ipv6_mapped().octets())],
        IpAddr::V6(v6) => vec![words(v6.octets())],
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1111 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 100 0 0 10 0
   1: 00000000:2222 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4243 1 0000000000000000 100 0 0 10 0
   2: 0200007F:1111 00000000:0000 0A 00000000:00000000 00:00000000 00000000     8        0 4245 1 0000000000000000 100 0 0 10 0
   4: garbage
   5: 0000000000000000FFFF00000100007F:3333 0:0 0A 00000000:00000000 00:00000000 00000000     9        0 4246 1
   6: 0100007F:1111 0100007F:9999 01 00000000:00000000 00:00000000 00000000     7        0 4244 1 0000000000000000 100 0 0 10 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_table_shows_the_owner_of_the_other_end() {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert_eq!(end(TABLE.as_bytes(), at(0x1111), at(0x9999)), Some(7));
        assert_eq!(end(TABLE.as_bytes(), at(0x9999), at(0x1111)), None, "the ends are reversed");
        assert_eq!(end(TABLE.as_bytes(), at(0x1111), at(0)), None, "a listening socket is not connected");
    }

    #[test]
    fn the_owner_of_our_own_end_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_theirs, from) = listener.accept().unwrap();
            let uid = rustix::process::getuid().as_raw();
            assert_eq!(owner_of_end(from, ours.peer_addr().unwrap()), Some(uid));
            assert_eq!(user_of_end(from, ours.peer_addr().unwrap()), Some(uid));
        }
    }

    #[test]
    fn the_process_of_a_listening_socket_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owners = owning_processes(listener.local_addr().unwrap());
        let [(uid, Some(holder))] = &owners.iter().cloned().collect::<Vec<_>>()[..] else { panic!("{owners:?}") };
        assert_eq!(*uid, rustix::process::getuid().as_raw());
        assert_eq!(u32::try_from(holder.pid), Ok(std::process::id()));
        assert!(!holder.program.is_empty());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn only_sockets_that_listen_at_the_address_count() {
        let sockets = |port| listeners(TABLE.as_bytes(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let socket = |uid, inode| [Listening { uid, inode }];
        assert_eq!(sockets(0x1111), socket(1000, 4242), "this address only");
        assert_eq!(sockets(0x2222), socket(0, 4243), "all addresses");
        assert_eq!(sockets(0x3333), socket(9, 4246), "as IPv6");
        assert_eq!(sockets(0x9999), []);
    }
}
