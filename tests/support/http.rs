//! HTTP over the daemon's socket: requests, responses, and a blocking client. It shows each
//! received byte, because a library could hide faults.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::PATIENCE;

/// A received response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The headers, with names in the case that was sent.
    pub headers: Vec<(String, String)>,
    pub text: String,
    /// The body as JSON, or null if it is not JSON.
    pub body: Value,
}

impl Answer {
    /// Begins a response with its status line. Returns `None` if it is not one.
    pub fn begin(status_line: &str) -> Option<Self> {
        let status = status_line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
        Some(Self { status, headers: Vec::new(), text: String::new(), body: Value::Null })
    }

    /// Adds a line of the head. Returns whether more follow.
    pub fn add_header(&mut self, line: &str) -> bool {
        let header = line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.headers.extend(header.clone());
        header.is_some()
    }

    /// Returns the length of the body. The head must be complete.
    pub fn length(&self) -> usize {
        assert_eq!(self.header("transfer-encoding"), None, "clients cannot read chunks");
        match self.status {
            304 => 0,
            _ => self.header("content-length").expect("a length").parse().expect("a number"),
        }
    }

    /// Adds the body. Checks that JSON ends with one newline, and removes it.
    pub fn with_body(self, body: Vec<u8>) -> Self {
        let mut text = String::from_utf8(body).expect("text");
        if !text.is_empty() && self.header("content-type").is_some_and(|kind| kind.ends_with("json")) {
            assert_eq!(text.pop(), Some('\n'), "JSON ends with a newline: {text}");
            assert!(!text.ends_with('\n'), "JSON ends with one newline: {text}");
        }
        Self { body: serde_json::from_str(&text).unwrap_or_default(), text, ..self }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    /// Checks that this is a problem document, which has the same keys for every refusal. Returns
    /// its status and code.
    pub fn refusal(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body = &self.body;
        let keys: Vec<&str> = ["type", "title", "status", "detail", "code", "ok", "error"].into();
        assert_eq!(body.as_object().expect("an object").len(), keys.len(), "{body}");
        assert!(keys.iter().all(|key| body.get(key).is_some()), "{body}");
        assert_eq!(body["status"], self.status);
        assert_eq!(body["ok"], false);
        assert_eq!(body["error"], body["detail"]);
        assert!(!body["title"].as_str().expect("text").is_empty());
        (self.status, body["code"].as_str().expect("text").to_owned())
    }
}

/// Formats a request. `head` has further header lines, each with its line end.
pub fn request(method: &str, path: &str, head: &str, body: &str) -> String {
    let body = match (method, body) {
        ("GET" | "HEAD" | "DELETE", "") => "\r\n".to_owned(),
        _ => format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{head}{body}")
}

/// A connection for any number of requests.
pub struct Client(BufReader<UnixStream>);

impl Client {
    /// Connects to a socket.
    ///
    /// # Errors
    /// There is no listener at `socket`.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request, and reads its response.
    ///
    /// # Errors
    /// There is no complete response in time.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        self.exchange(&request(method, path, "", body))
    }

    fn exchange(&mut self, request: &str) -> io::Result<Answer> {
        self.0.get_mut().write_all(request.as_bytes())?;
        let status_line = self.line()?;
        let answer = Answer::begin(&status_line);
        let mut answer = answer.ok_or_else(|| io::Error::other(format!("no status line: {status_line:?}")))?;
        while answer.add_header(&self.line()?) {}
        let mut body = vec![0; answer.length()];
        self.0.read_exact(&mut body)?;
        Ok(answer.with_body(body))
    }

    /// Begins to follow the events, after the one with this id if there is one. Returns the lines
    /// of the stream.
    pub fn follow(self, last: Option<&str>) -> impl Iterator<Item = String> {
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        self.follow_at("/api/events", &last)
    }

    /// Begins to read an endless stream. `head` has further header lines, each with its line end.
    /// Returns the lines of the stream.
    pub fn follow_at(mut self, path: &str, head: &str) -> impl Iterator<Item = String> + use<> {
        self.0.get_mut().write_all(request("GET", path, head, "").as_bytes()).expect("taken");
        assert_eq!(self.line().expect("a response"), "HTTP/1.1 200 OK");
        self.0.lines().map(|line| line.expect("in time"))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

/// Sends one request over a new connection, as most clients of the daemon do, and waits until the
/// daemon has closed it.
///
/// # Errors
/// There is no listener at `socket`, or no complete response in time.
pub fn ask(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    let mut client = Client::connect(socket)?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    let answer = client.exchange(&request(method, path, "Connection: close\r\n", &body))?;
    let mut rest = Vec::new();
    client.0.read_to_end(&mut rest)?;
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    Ok(answer)
}
