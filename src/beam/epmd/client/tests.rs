use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::*;

/// Starts a real EPMD, which ends when the returned child is dropped.
async fn epmd() -> (Child, SocketAddr) {
    let port = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut command = Command::new("epmd");
    command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]).kill_on_drop(true).stderr(Stdio::null());
    let child = command.spawn().expect("epmd is installed (Debian: erlang-base)");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let begun = Instant::now();
    while names(address).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "epmd answers");
        tokio::task::yield_now().await;
    }
    (child, address)
}

/// Starts a server that sends `answer` to every connection and keeps it open.
async fn fake(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(&answer).await;
            open.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn a_name_is_registered_until_it_is_freed() {
    let (_child, address) = epmd().await;
    let registration = register(address, "here", 4711, false).await.unwrap();
    assert!(registration.creation > 0);
    assert_eq!(names(address).await.unwrap(), [("here".to_owned(), 4711)]);
    assert_eq!(port(address, "here").await.unwrap(), Some(4711));
    assert_eq!(port(address, "there").await.unwrap(), None);
    assert!(matches!(register(address, "here", 1, false).await, Err(Error::NameTaken(_))));
    registration.unregister().await;
    assert_eq!(names(address).await.unwrap(), []);
    register(address, "here", 4712, true).await.expect("free again");
}

#[tokio::test]
async fn the_end_of_epmd_ends_the_registration() {
    let (mut child, address) = epmd().await;
    let mut registration = register(address, "here", 4711, false).await.unwrap();
    let still = timeout(Duration::from_millis(50), registration.lost()).await;
    assert!(still.is_err(), "the registration is kept");
    child.kill().await.unwrap();
    timeout(Duration::from_secs(10), registration.lost()).await.expect("it is lost");
    assert!(matches!(names(address).await, Err(Error::Unreachable(..))));
}

#[tokio::test(start_paused = true)]
async fn a_stalling_epmd_delays_a_request_for_a_limited_time() {
    let silent = fake(vec![]).await;
    let begun = tokio::time::Instant::now();
    assert!(matches!(port(silent, "here").await, Err(Error::TimedOut(_))));
    let promised = Duration::from_secs(2)..Duration::from_millis(2100);
    assert!(promised.contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn freeing_a_name_waits_a_bounded_time_for_epmd() {
    let keeping = fake(vec![b'v', 0, 0, 0, 0, 9]).await;
    let registration = register(keeping, "here", 4711, false).await.unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    registration.unregister().await;
    let promised = Duration::from_millis(200)..Duration::from_millis(250);
    assert!(promised.contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let line = b"name n at port 1\n";
    let bound = usize::try_from(limits::EPMD_ANSWER).unwrap();
    let mut answer = vec![0, 0, 0, 1];
    while answer.len() < bound + 1000 {
        answer.extend_from_slice(line);
    }
    let endless = fake(answer).await;
    // The connection is never closed, so the size limit ends the read, in the middle of a line.
    assert_eq!(names(endless).await.unwrap().len(), bound / line.len());
}

#[tokio::test]
async fn an_unreadable_name_hides_no_other() {
    let lines =
        b"\0\0\0\x01name a at port 1\nname \xff at port 2\nname b\nname c at port 70000\nname d e at port 4\nname f";
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
        stream.write_all(lines).await.unwrap();
    };
    let (names, ()) = tokio::join!(names(address), answering);
    assert_eq!(names.unwrap(), [("a".to_owned(), 1), ("d e".to_owned(), 4)]);
}

#[tokio::test]
async fn a_program_that_is_not_epmd_is_detected() {
    let web = fake(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    assert!(matches!(register(web, "here", 1, false).await, Err(Error::Protocol(..))));
    assert!(matches!(port(web, "here").await, Err(Error::Protocol(..))));
}
