//! A DNS server with one name. A process whose `/etc` was made by [`etc`] resolves names with it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The responses of the server.
#[derive(Clone)]
pub enum Zone {
    /// The addresses of each requested name. An empty list means that the name does not exist.
    Addresses(Vec<IpAddr>),
    /// A server failure (SERVFAIL).
    Failure,
    /// No response.
    Silence,
}

/// A running server. It runs until the test's process ends.
#[derive(Clone)]
pub struct Dns(Arc<Mutex<Zone>>);

impl Dns {
    /// Starts a server on an address of the calling thread's network.
    pub fn start(address: IpAddr) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(address, 53)).expect("port 53 is free");
        let zone = Arc::new(Mutex::new(Zone::Addresses(Vec::new())));
        let shown = zone.clone();
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let zone = shown.lock().unwrap().clone();
                if let Some(answer) = answer(&question[..length], &zone) {
                    socket.send_to(&answer, from).expect("sent");
                }
            }
        });
        Self(zone)
    }

    /// Replaces the responses.
    pub fn set(&self, zone: Zone) {
        *self.0.lock().unwrap() = zone;
    }

    /// Answers with these addresses.
    pub fn names(&self, addresses: &[&str]) {
        self.set(Zone::Addresses(addresses.iter().map(|address| address.parse().unwrap()).collect()));
    }
}

/// Writes an `/etc` whose only name service is the server at `address`.
pub fn etc(directory: &Path, address: IpAddr) -> PathBuf {
    let etc = directory.join("etc");
    std::fs::create_dir(&etc).unwrap();
    std::fs::write(etc.join("resolv.conf"), format!("nameserver {address}\n")).unwrap();
    std::fs::write(etc.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
    std::fs::write(etc.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    etc
}

/// Encodes a response (RFC 1035): a header of 12 bytes, the question unchanged, and an A or AAAA
/// record for each address of the requested type.
fn answer(message: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let (addresses, code) = match zone {
        Zone::Addresses(addresses) if addresses.is_empty() => (addresses.as_slice(), 3),
        Zone::Addresses(addresses) => (addresses.as_slice(), 0),
        Zone::Failure => (&[][..], 2),
        Zone::Silence => return None,
    };
    let mut end = 12;
    while message[end] != 0 {
        end += 1 + usize::from(message[end]);
    }
    let (kind, question) = (message[end + 2], &message[12..end + 5]);
    let of_kind = |address: &&IpAddr| kind == if address.is_ipv4() { 1 } else { 28 };
    let records: Vec<&IpAddr> = addresses.iter().filter(of_kind).collect();
    let count = u8::try_from(records.len()).unwrap();
    // Flags: a response, recursion available. Counts: one question, and the records.
    let mut answer = [&message[..2], &[0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0], question].concat();
    for record in records {
        let bytes = match record {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        // A pointer to the question's name, class IN, and a time to live of 0.
        answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, u8::try_from(bytes.len()).unwrap()]);
        answer.extend(bytes);
    }
    Some(answer)
}
