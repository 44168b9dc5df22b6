//! A client of a [`World`] that does not block the thread of the server.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::PATIENCE;
use super::http::{Answer, request};
use super::world::World;

/// A connection.
pub struct Client(pub BufReader<UnixStream>);

pub async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("a timely result")
}

impl Client {
    pub async fn new(world: &World) -> Self {
        Self(BufReader::new(UnixStream::connect(&world.socket).await.expect("a listening socket")))
    }

    pub async fn send(&mut self, bytes: &str) {
        in_time(self.0.write_all(bytes.as_bytes())).await.expect("the daemon reads");
    }

    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        in_time(self.0.read_line(&mut line)).await.expect("a line");
        line.trim_end().to_owned()
    }

    /// Reads one response. A response to HEAD has no body, whatever its length header says.
    pub async fn answer(&mut self, has_body: bool) -> Answer {
        let status_line = self.line().await;
        let answer = Answer::begin(&status_line);
        let mut answer = answer.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        while answer.add_header(&self.line().await) {}
        let mut body = vec![0; answer.length()];
        if has_body {
            in_time(self.0.read_exact(&mut body)).await.expect("a complete body");
        } else {
            body.clear();
        }
        answer.with_body(body)
    }

    /// Waits until the daemon closes the connection, and checks that it sends nothing before.
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
    ask(world, &request("GET", path, "", "")).await
}

pub async fn delete(world: &World, path: &str) -> Answer {
    ask(world, &request("DELETE", path, "", "")).await
}

pub fn post(body: &str) -> String {
    request("POST", "/api/plugins/register", "", body)
}

pub async fn register(world: &World, body: Value) -> Answer {
    ask(world, &post(&body.to_string())).await
}
