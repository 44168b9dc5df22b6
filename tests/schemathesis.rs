//! Schemathesis generates requests from the served `openapi.json`. It must find no undocumented
//! response and no server error.

#![allow(clippy::expect_used, reason = "a failed expectation fails the test")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::Host;
use tokio::net::{TcpListener, UnixStream};

/// Schemathesis supports only TCP, so each connection is forwarded to the socket.
async fn carry(listener: TcpListener, socket: PathBuf) {
    loop {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        let socket = socket.clone();
        tokio::spawn(async move {
            let mut unix = UnixStream::connect(socket).await.expect("the daemon listens");
            let _ = tokio::io::copy_bidirectional(&mut tcp, &mut unix).await;
        });
    }
}

/// A plugin's data outlives its registration, so its endpoint still answers after the plugin was
/// deleted.
const KEPT_DATA: &str = r#"
[checks]
enabled = true

[[operations]]
include-path = "/api/plugins/{name}/data"
checks.use_after_free.enabled = false
"#;

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_undocumented_response_and_no_server_error() {
    let host = Host::new();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/openapi.json", listener.local_addr().expect("bound"));
    tokio::spawn(carry(listener, host.socket()));

    std::fs::write(host.home().join("schemathesis.toml"), KEPT_DATA).expect("written");
    let program = std::env::var("SCHEMATHESIS").unwrap_or_else(|_| "schemathesis".to_owned());
    let mut command = Command::new(&program);
    // An event stream has no end, so it cannot be one of many requests; tests/api_events.rs and
    // tests/trace.rs test the two.
    command
        .args(["run", &url, "--exclude-path", "/api/events", "--exclude-path", "/api/cluster/peers/{node}/trace"])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--max-examples", "300", "--continue-on-failure", "--no-color", "--suppress-health-check", "all"])
        .current_dir(host.home());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("schemathesis runs");
    let ran = ran.unwrap_or_else(|e| panic!("{program}: {e}. `make test-openapi` installs it"));
    let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{errors}");
    println!("{out}");
    assert_eq!(daemon.log_lines(&["ERROR"]), Vec::<String>::new());
}
