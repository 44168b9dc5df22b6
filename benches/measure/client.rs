//! A client that costs less than the client of the tests, so that a bench measures the daemon. It
//! reuses one buffer, and parses only the length of a response.

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
    /// Connects to a socket that has a listener.
    pub fn connect(socket: &Path) -> Self {
        Self { stream: UnixStream::connect(socket).expect("a listener"), answer: vec![0; 64 * 1024] }
    }

    /// Sends a request, and returns the head and the body of its successful response.
    pub fn ask(&mut self, request: &[u8]) -> (&str, &[u8]) {
        self.stream.write_all(request).expect("the daemon reads");
        let (mut filled, mut ends) = (0, None);
        loop {
            let read = self.stream.read(&mut self.answer[filled..]).expect("a response");
            assert!(read > 0, "the daemon closed before the end of the response");
            filled += read;
            let (body, end) = *match &mut ends {
                Some(ends) => ends,
                None => match head_of(&self.answer[..filled]) {
                    Some(found) => ends.insert(found),
                    None => continue,
                },
            };
            if filled >= end {
                let head = std::str::from_utf8(&self.answer[..body]).expect("the head is text");
                return (head, &self.answer[body..end]);
            }
            if self.answer.len() < end {
                self.answer.resize(end, 0);
            }
        }
    }
}

/// Returns where the body begins and ends.
fn head_of(answer: &[u8]) -> Option<(usize, usize)> {
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..body]).expect("the head is text");
    assert!(head.starts_with("HTTP/1.1 20"), "{}", String::from_utf8_lossy(answer));
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    Some((body, body + length.parse::<usize>().expect("a number")))
}

pub const LIST: &[u8] = b"GET /api/plugins HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Returns a request that registers a plugin.
pub fn registration(name: &str) -> Vec<u8> {
    let body = format!(r#"{{"name":"{name}","version":"0.1.0","description":"A plugin that is measured"}}"#);
    request("POST", "/api/plugins/register", "", &body).into_bytes()
}
