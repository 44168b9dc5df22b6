//! Asks the kernel whose socket it is that is connected between two addresses, and whose are those that listen at a port
//! (`sock_diag(7)`): about these alone, where `/proc/net/tcp` goes through its table of all connections, which is large however few there
//! are.
//!
//! It owns nothing, and follows `linux/netlink.h` and `linux/inet_diag.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::limits;

/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `SOCK_DIAG_BY_FAMILY`, the type of the question and of its answer.
const BY_FAMILY: u16 = 20;
/// Where the ports are in `struct inet_diag_msg`, which follows the header of the answer: the first of `id`.
const PORTS: usize = HEADER + 4;
/// Where the address of the socket is: behind the ports.
const SOURCE: usize = PORTS + 4;
/// Where `idiag_uid` is: behind four bytes, `struct inet_diag_sockid` (48 bytes) and three words.
const UID: usize = HEADER + 4 + 48 + 12;
/// Where `idiag_inode` is: after `idiag_uid`.
const INODE: usize = UID + 4;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const NLM_F_REQUEST: u16 = 1;
/// `NLM_F_ROOT | NLM_F_MATCH`: all that there are, in as many messages as it takes.
const NLM_F_DUMP: u16 = 0x300;
/// `1 << TCP_LISTEN`
const LISTENING: u32 = 1 << 10;

/// The user whose socket has the address `local` and is connected to `remote`; none if there is none, or the kernel doesn't say.
#[must_use]
pub(super) fn owner(local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let kernel = asked(&question(NLM_F_REQUEST, u32::MAX, local, remote))?;
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

/// Returns the sockets that accept connections to this port, each with its address; `None`
/// if the kernel cannot be asked.
#[must_use]
pub(super) fn listeners(port: u16) -> Option<Vec<(IpAddr, Listening)>> {
    let mut listeners = Vec::new();
    for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let (local, remote) = (SocketAddr::new(any, port), SocketAddr::new(any, 0));
        let kernel = asked(&question(NLM_F_REQUEST | NLM_F_DUMP, LISTENING, local, remote))?;
        let mut buffer = [0; 16 * 1024];
        while !listed(received(&kernel, &mut buffer)?, port, &mut listeners)? {}
    }
    Some(listeners)
}

/// A socket to the kernel over which it has been asked this.
fn asked(question: &[u8]) -> Option<OwnedFd> {
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG)).ok()?;
    send(&kernel, question, SendFlags::empty()).ok()?;
    Some(kernel)
}

/// The next of what it answers, which is there by the time that it is asked.
fn received<'b>(kernel: &OwnedFd, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let (length, _) = recv(kernel, &mut *buffer, RecvFlags::DONTWAIT).ok()?;
    buffer.get(..length)
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`: of sockets in these states.
fn question(flags: u16, states: u32, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
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
    // On whatever interface, and `INET_DIAG_NOCOOKIE`.
    body.extend([0; 4]);
    body.extend([0xFF; 8]);
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let mut question = length.to_ne_bytes().to_vec();
    question.extend(BY_FAMILY.to_ne_bytes());
    question.extend(flags.to_ne_bytes());
    // The sequence number, and the kernel as whom it is for.
    question.extend([0; 8]);
    question.extend(body);
    question
}

/// The owner in the answer, if it is about this very connection: where there is none, a socket that listens may be told.
fn answer(answer: &[u8], local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let about = answer.get(PORTS..PORTS + 4)?;
    let uid = u32::from_ne_bytes(answer.get(UID..UID + 4)?.try_into().ok()?);
    (kind == BY_FAMILY && about == ports(local, remote)).then_some(uid)
}

/// Adds what one part of the answer lists of sockets at this port, and tells whether it is the last; none if it isn't an answer, or
/// too many are.
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

/// The socket that a message is about, if it is at this port, which an old kernel need not have looked at.
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
    fn a_connection_has_an_owner_at_each_end_and_none_when_it_has_gone() {
        let us = Some(rustix::process::getuid().as_raw());
        // The last one's own end is of IPv6, and has an address of IPv4.
        for (listens, dials) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            let listener = TcpListener::bind(listens).unwrap();
            let to = SocketAddr::new(dials.parse().unwrap(), listener.local_addr().unwrap().port());
            let stream = TcpStream::connect(to).unwrap();
            let accepted = listener.accept().unwrap().0;
            let (ours, theirs) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            assert_eq!((owner(ours, theirs), owner(theirs, ours)), (us, us), "{listens}");
            let nobody = SocketAddr::new(to.ip(), 1);
            assert_eq!(owner(nobody, theirs), None);
            assert_eq!(owner(theirs, nobody), None, "the socket that listens there is not meant");
            drop((stream, accepted));
        }
    }

    #[test]
    fn those_that_listen_are_told_with_their_addresses_and_no_others() {
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
    fn a_list_is_read_to_its_end_or_not_at_all() {
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
    fn an_answer_that_is_too_short_or_another_says_nothing() {
        let (a, b) = ("10.0.0.1:4369".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        assert_eq!(question(NLM_F_REQUEST, u32::MAX, a, b).len(), 72);
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
