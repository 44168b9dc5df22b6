//! A client that costs less than the one of the tests, so that a bench measures the daemon: it allocates nothing and parses
//! only the length of a response.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::support::http::request;

/// A connection.
pub struct Client {
    stream: UnixStream,
    answer: Vec<u8>,
}

impl Client {
    /// Connects to a socket on which somebody listens.
    pub fn connect(socket: &Path) -> Self {
        Self { stream: UnixStream::connect(socket).expect("somebody listens"), answer: vec![0; 64 * 1024] }
    }

    /// Asks, and gives the head and the body of the answer, which is one of success.
    pub fn ask(&mut self, request: &[u8]) -> (&str, &[u8]) {
        self.stream.write_all(request).expect("it reads");
        let (mut filled, mut ends) = (0, None);
        loop {
            let read = self.stream.read(&mut self.answer[filled..]).expect("it answers");
            assert!(read > 0, "it closed before the answer was whole");
            filled += read;
            let (body, end) = *match &mut ends {
                Some(ends) => ends,
                None => match head_of(&self.answer[..filled]) {
                    Some(found) => ends.insert(found),
                    None => continue,
                },
            };
            if filled >= end {
                let head = std::str::from_utf8(&self.answer[..body]).expect("a head is text");
                return (head, &self.answer[body..end]);
            }
            if self.answer.len() < end {
                self.answer.resize(end, 0);
            }
        }
    }
}

/// Where the body begins and where it ends.
fn head_of(answer: &[u8]) -> Option<(usize, usize)> {
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..body]).expect("a head is text");
    assert!(head.starts_with("HTTP/1.1 20"), "{}", String::from_utf8_lossy(answer));
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("it tells its length");
    Some((body, body + length.parse::<usize>().expect("a number")))
}

/// The request for the list.
pub const LIST: &[u8] = b"GET /api/plugins HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The request that registers a plugin.
pub fn registration(name: &str) -> Vec<u8> {
    let body = format!(r#"{{"name":"{name}","version":"0.1.0","description":"A plugin that is measured"}}"#);
    request("POST", "/api/plugins/register", "", &body).into_bytes()
}
