//! A client of the API that shows every byte, where a library would mend or hide what is under test.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{PATIENCE, World};

/// A connection.
pub struct Client(pub BufReader<UnixStream>);

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Holds a refusal to the shape that all have, and gives its status and code.
    pub fn refusal(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body = self.json();
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

pub async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

impl Client {
    pub async fn new(world: &World) -> Self {
        Self(BufReader::new(UnixStream::connect(&world.socket).await.expect("listening")))
    }

    pub async fn send(&mut self, bytes: &str) {
        in_time(self.0.write_all(bytes.as_bytes())).await.expect("taken");
    }

    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        in_time(self.0.read_line(&mut line)).await.expect("readable");
        line.trim_end().to_owned()
    }

    /// Reads one answer; one to HEAD has no body, whatever its length says.
    pub async fn answer(&mut self, has_body: bool) -> Answer {
        let status_line = self.line().await;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((key, value)) = line.split_once(": ") else {
                break;
            };
            headers.push((key.to_owned(), value.to_owned()));
        }
        let mut answer = Answer { status, headers, body: String::new() };
        assert_eq!(answer.header("transfer-encoding"), None, "clients cannot read chunks");
        if status == 304 {
            return answer;
        }
        let length = answer.header("content-length").expect("a length").parse().expect("a number");
        if has_body {
            let mut body = vec![0; length];
            in_time(self.0.read_exact(&mut body)).await.expect("whole");
            answer.body = String::from_utf8(body).expect("text");
        }
        answer
    }

    /// Waits until the daemon closes; whatever comes before is an error.
    pub async fn closed(&mut self) {
        let mut rest = Vec::new();
        match in_time(self.0.read_to_end(&mut rest)).await {
            Ok(_) => assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

pub async fn ask(world: &World, request: &str) -> Answer {
    let mut client = Client::new(world).await;
    client.send(request).await;
    client.answer(!request.starts_with("HEAD")).await
}

pub async fn get(world: &World, path: &str) -> Answer {
    ask(world, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
}

pub async fn delete(world: &World, path: &str) -> Answer {
    ask(world, &format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
}

pub fn post(body: &str) -> String {
    let head = "POST /api/plugins/register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub async fn register(world: &World, body: Value) -> Answer {
    ask(world, &post(&body.to_string())).await
}
