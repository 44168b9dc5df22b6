//! The real EPMD in the foreground, and the two requests that tests send to it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};

use super::{PATIENCE, Process, wait_for, wait_within};

const INSTALL: &str = "Install Erlang/OTP, which includes it (Debian: apt-get install erlang-base)";

/// A running EPMD.
pub struct Epmd {
    process: Process,
    port: u16,
}

impl Epmd {
    /// Starts EPMD, and waits until it answers.
    pub fn start(port: u16) -> Self {
        let mut command = Command::new("epmd");
        command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::start(&mut command, INSTALL);
        wait_for("EPMD answers", || ask(port, b"n").is_some());
        Self { process, port }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGSTOP: EPMD accepts connections and does not answer.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Sends SIGKILL: all names are lost.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Returns the registered names and their ports.
    pub fn names(&self) -> BTreeMap<String, u16> {
        names(self.port)
    }

    /// Waits until a name is registered, and returns its port.
    pub fn port_of(&self, name: &str) -> u16 {
        wait_within(PATIENCE, format!("{name} is registered"), || self.names().remove(name))
    }

    /// Registers a name for `port`, until the returned connection is dropped. Any process on a host
    /// can do this.
    pub fn register(&self, name: &str, port: u16) -> TcpStream {
        let mut stream = connect(self.port).expect("EPMD answers");
        send(&mut stream, &alive(name.as_bytes(), port)).expect("EPMD reads");
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).expect("EPMD answers");
        assert_eq!(answer[1], 0, "EPMD refuses {name}");
        stream
    }
}

/// Encodes the registration of a visible node: TCP over IPv4, distribution versions 5 to 6, no
/// extra data.
pub fn alive(name: &[u8], port: u16) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap().to_be_bytes();
    [&[b'x'][..], &port.to_be_bytes(), &[77, 0, 0, 6, 0, 5], &length, name, &[0, 0]].concat()
}

/// Returns the names in the EPMD on `port`, or nothing if none answers.
pub fn names(port: u16) -> BTreeMap<String, u16> {
    let answer = ask(port, b"n").unwrap_or_default();
    // After four bytes with EPMD's own port, each line is "name N at port P".
    let lines = String::from_utf8_lossy(answer.get(4..).unwrap_or_default()).into_owned();
    let entry = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.to_owned(), words.nth(2)?.parse().ok()?))
    };
    lines.lines().filter_map(entry).collect()
}

pub fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

pub fn send(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(request.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), request].concat())
}

fn ask(port: u16, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = connect(port).ok()?;
    send(&mut stream, request).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(answer)
}
