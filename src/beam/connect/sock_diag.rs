//! Queries the kernel for the owners of a connected socket and of the sockets that listen on a port
//! (`sock_diag(7)`). Such a query is fast, whereas `/proc/net/tcp` goes through all connections of
//! the host.
//!
//! Spec: `linux/netlink.h` and `linux/inet_diag.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::limits;

/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `SOCK_DIAG_BY_FAMILY`, the type of the request and of its answer.
const BY_FAMILY: u16 = 20;
/// The position of the ports in `struct inet_diag_msg`, which follows the header of the answer: the
/// first fields of `id`.
const PORTS: usize = HEADER + 4;
/// The position of the socket's address: after the ports.
const SOURCE: usize = PORTS + 4;
/// The position of `idiag_uid`: after four bytes, `struct inet_diag_sockid` (48 bytes) and three
/// words.
const UID: usize = HEADER + 4 + 48 + 12;
/// The position of `idiag_inode`: after `idiag_uid`.
const INODE: usize = UID + 4;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const NLM_F_REQUEST: u16 = 1;
/// `NLM_F_ROOT | NLM_F_MATCH`: requests all sockets, in as many messages as necessary.
const NLM_F_DUMP: u16 = 0x300;
/// `1 << TCP_LISTEN`
const LISTENING: u32 = 1 << 10;

/// Returns the owner of the socket with the address `local` that is connected to `remote`. Returns
/// `None` if there is no such socket or the kernel does not answer.
#[must_use]
pub(super) fn owner(local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let kernel = sent(&request(NLM_F_REQUEST, u32::MAX, local, remote))?;
    let mut buffer = [0; 512];
    answer(received(&kernel, &mut buffer)?, local, remote)
}

/// A socket that accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listening {
    /// The user who owns it.
    pub uid: u32,
    /// Its inode number, as proc(5) shows it.
    pub inode: u32,
}

/// Returns the sockets that accept connections to this port, each with its address, or `None` if
/// the kernel cannot be queried.
#[must_use]
pub(super) fn listeners(port: u16) -> Option<Vec<(IpAddr, Listening)>> {
    let mut listeners = Vec::new();
    for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let (local, remote) = (SocketAddr::new(any, port), SocketAddr::new(any, 0));
        let kernel = sent(&request(NLM_F_REQUEST | NLM_F_DUMP, LISTENING, local, remote))?;
        let mut buffer = [0; 16 * 1024];
        while !listed(received(&kernel, &mut buffer)?, port, &mut listeners)? {}
    }
    Some(listeners)
}

/// Sends a request to the kernel. Returns the socket for the answer.
fn sent(request: &[u8]) -> Option<OwnedFd> {
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG)).ok()?;
    send(&kernel, request, SendFlags::empty()).ok()?;
    Some(kernel)
}

/// Receives the next part of the answer, which the kernel queues before the request returns.
fn received<'b>(kernel: &OwnedFd, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let (length, _) = recv(kernel, &mut *buffer, RecvFlags::DONTWAIT).ok()?;
    buffer.get(..length)
}

/// Encodes `struct nlmsghdr` and `struct inet_diag_req_v2` for sockets in these states.
fn request(flags: u16, states: u32, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    const IPPROTO_TCP: u8 = 6;
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut body = vec![family, IPPROTO_TCP, 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend(ports(local, remote));
    for ip in [local.ip(), remote.ip()] {
        match ip {
            IpAddr::V4(v4) => body.extend([&v4.octets()[..], &[0; 12]].concat()),
            IpAddr::V6(v6) => body.extend(v6.octets()),
        }
    }
    // Any interface, and `INET_DIAG_NOCOOKIE`.
    body.extend([0; 4]);
    body.extend([0xFF; 8]);
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // The sequence number, and the port id of the kernel.
    request.extend([0; 8]);
    request.extend(body);
    request
}

/// Reads the owner from an answer. The addresses are checked, because without such a connection,
/// the kernel may answer with a listening socket.
fn answer(answer: &[u8], local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let about = answer.get(PORTS..PORTS + 4)?;
    let uid = u32::from_ne_bytes(answer.get(UID..UID + 4)?.try_into().ok()?);
    (kind == BY_FAMILY && about == ports(local, remote)).then_some(uid)
}

/// Adds the sockets at this port from one part of the answer. Returns whether it is the last part,
/// or `None` if the part is malformed, or there are too many sockets.
fn listed(mut part: &[u8], port: u16, listeners: &mut Vec<(IpAddr, Listening)>) -> Option<bool> {
    const NLMSG_DONE: u16 = 3;
    while !part.is_empty() {
        let length = usize::try_from(u32::from_ne_bytes(part.get(..4)?.try_into().ok()?)).ok()?;
        let message = part.get(..length).filter(|message| message.len() >= HEADER)?;
        match u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?) {
            NLMSG_DONE => return Some(true),
            BY_FAMILY if listeners.len() < limits::LISTENERS => listeners.extend(listener(message, port)?),
            _ => return None,
        }
        // `NLMSG_ALIGN`
        part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(false)
}

/// Reads the socket of one message. The inner `None` means that it is at another port, because an
/// old kernel may ignore the port in the request.
fn listener(message: &[u8], port: u16) -> Option<Option<(IpAddr, Listening)>> {
    let address: [u8; 16] = message.get(SOURCE..SOURCE + 16)?.try_into().ok()?;
    let [a, b, c, d, ..] = address;
    let address = match *message.get(HEADER)? {
        AF_INET => Ipv4Addr::from([a, b, c, d]).into(),
        _ => IpAddr::from(address),
    };
    let word = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    let listening = Listening { uid: word(UID)?, inode: word(INODE)? };
    Some((message.get(PORTS..PORTS + 2)? == port.to_be_bytes()).then_some((address, listening)))
}

fn ports(local: SocketAddr, remote: SocketAddr) -> [u8; 4] {
    let ([a, b], [c, d]) = (local.port().to_be_bytes(), remote.port().to_be_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn each_end_of_a_connection_has_an_owner() {
        let us = Some(rustix::process::getuid().as_raw());
        // In the last case, the listener is an IPv6 socket, and the connection has IPv4 addresses.
        for (listens, dials) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            let listener = TcpListener::bind(listens).unwrap();
            let to = SocketAddr::new(dials.parse().unwrap(), listener.local_addr().unwrap().port());
            let stream = TcpStream::connect(to).unwrap();
            let accepted = listener.accept().unwrap().0;
            let (ours, theirs) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            assert_eq!((owner(ours, theirs), owner(theirs, ours)), (us, us), "{listens}");
            let unused = SocketAddr::new(to.ip(), 1);
            assert_eq!(owner(unused, theirs), None);
            assert_eq!(owner(theirs, unused), None, "the listening socket does not count");
            drop((stream, accepted));
        }
    }

    #[test]
    fn only_listening_sockets_are_listed_with_their_addresses() {
        let us = rustix::process::getuid().as_raw();
        for (listens, seen) in
            [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "0.0.0.0"), ("[::1]:0", "::1"), ("[::]:0", "::")]
        {
            let listener = TcpListener::bind(listens).unwrap();
            let port = listener.local_addr().unwrap().port();
            let _stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let found = listeners(port).unwrap();
            let [(address, Listening { uid, inode })] = found[..] else { panic!("{listens}: {found:?}") };
            assert_eq!((address, uid), (seen.parse().unwrap(), us), "{listens}");
            let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener));
            let shown = std::fs::read_link(descriptor).unwrap();
            assert_eq!(shown.to_str(), Some(format!("socket:[{inode}]").as_str()), "{listens}");
            drop(listener);
            assert_eq!(listeners(port), Some(vec![]));
        }
    }

    #[test]
    fn an_incomplete_or_long_list_of_sockets_is_not_used() {
        let message = |kind: u16, size: usize| {
            let mut message = vec![0; size];
            message[..4].copy_from_slice(&u32::try_from(size).unwrap().to_ne_bytes());
            message[4..6].copy_from_slice(&kind.to_ne_bytes());
            message
        };
        let mut socket = message(BY_FAMILY, 88);
        socket[HEADER] = AF_INET;
        socket[PORTS..PORTS + 2].copy_from_slice(&80_u16.to_be_bytes());
        socket[SOURCE..SOURCE + 4].copy_from_slice(&[127, 0, 0, 1]);
        socket[UID..UID + 4].copy_from_slice(&1000_u32.to_ne_bytes());
        socket[INODE..INODE + 4].copy_from_slice(&4242_u32.to_ne_bytes());
        let read = |part: &[u8], port| {
            let mut listeners = Vec::new();
            listed(part, port, &mut listeners).map(|ended| (ended, listeners))
        };
        let one = ("127.0.0.1".parse().unwrap(), Listening { uid: 1000, inode: 4242 });
        let done = message(3, 20);
        assert_eq!(read(&[&socket[..], &socket].concat(), 80), Some((false, vec![one, one])));
        assert_eq!(read(&[&socket[..], &done].concat(), 80), Some((true, vec![one])));
        assert_eq!(read(&[&socket[..], &done].concat(), 81), Some((true, vec![])));
        assert_eq!(read(&message(2, 36), 80), None, "`NLMSG_ERROR`");
        let most = socket.repeat(limits::LISTENERS);
        assert_eq!(read(&most, 80).map(|(_, listeners)| listeners.len()), Some(limits::LISTENERS));
        assert_eq!(read(&[most, socket.clone()].concat(), 80), None, "one more");
        for length in 1..socket.len() {
            assert_eq!(read(&socket[..length], 80), None);
        }
        assert_eq!(read(&[0; 64], 80), None, "no length");
        assert_eq!(read(&message(BY_FAMILY, 40), 80), None, "too short to be one");
    }

    #[test]
    fn a_short_or_unrelated_answer_has_no_owner() {
        let (a, b) = ("10.0.0.1:4369".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        assert_eq!(request(NLM_F_REQUEST, u32::MAX, a, b).len(), 72);
        let mut whole = vec![0; 88];
        whole[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        whole[PORTS..PORTS + 4].copy_from_slice(&ports(a, b));
        whole[UID..UID + 4].copy_from_slice(&1000_u32.to_ne_bytes());
        assert_eq!(answer(&whole, a, b), Some(1000));
        assert_eq!(answer(&whole, b, a), None);
        for length in 0..UID + 4 {
            assert_eq!(answer(&whole[..length], a, b), None);
        }
        // `NLMSG_ERROR`
        whole[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!(answer(&whole, a, b), None);
    }
}
