//! Asks the kernel whose socket it is that is connected between two addresses (`sock_diag(7)`): one question about one
//! socket, where `/proc/net/tcp` has thousands of lines, most of them of connections that have ended.
//!
//! It owns nothing, and follows `linux/netlink.h` and `linux/inet_diag.h`.

use std::net::{IpAddr, SocketAddr};

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `SOCK_DIAG_BY_FAMILY`, the type of the question and of its answer.
const BY_FAMILY: u16 = 20;
/// Where the ports are in `struct inet_diag_msg`, which follows the header of the answer: the first of `id`.
const PORTS: usize = HEADER + 4;
/// Where `idiag_uid` is: behind four bytes, `struct inet_diag_sockid` (48 bytes) and three words.
const UID: usize = HEADER + 4 + 48 + 12;

/// The user whose socket has the address `local` and is connected to `remote`; none if there is none, or the kernel doesn't say.
#[must_use]
pub fn owner(local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG)).ok()?;
    send(&kernel, &question(local, remote), SendFlags::empty()).ok()?;
    let mut buffer = [0; 512];
    // It has answered by the time that the question is sent.
    let (length, _) = recv(&kernel, &mut buffer, RecvFlags::DONTWAIT).ok()?;
    answer(buffer.get(..length)?, local, remote)
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn question(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const IPPROTO_TCP: u8 = 6;
    const NLM_F_REQUEST: u16 = 1;
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut body = vec![family, IPPROTO_TCP, 0, 0];
    // In any state.
    body.extend(u32::MAX.to_ne_bytes());
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
    question.extend(NLM_F_REQUEST.to_ne_bytes());
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
    fn an_answer_that_is_too_short_or_another_says_nothing() {
        let (a, b) = ("10.0.0.1:4369".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        assert_eq!(question(a, b).len(), 72);
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
