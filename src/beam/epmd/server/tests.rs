use std::net::TcpListener as StdListener;
use std::time::Duration;

use super::*;
use crate::epmd::client;

/// Starts a server on a free port.
fn started() -> (Server, SocketAddr) {
    let port = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let server = start(&[Ipv4Addr::LOCALHOST.into()], port, |_, _| None).expect("the port is free");
    (server, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

#[tokio::test]
async fn loopback_is_always_served() {
    let at = |last| Ipv4Addr::new(127, 0, 0, last);
    // This port must be free at every address, because other tests use ports of single addresses.
    let port = StdListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port();
    let has_ipv6 = StdListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok();
    let _server = start(&[at(2).into()], port, |_, _| None).expect("the port is free");
    for last in [1, 2] {
        assert_eq!(client::names(SocketAddr::from((at(last), port))).await.unwrap(), []);
    }
    if has_ipv6 {
        assert_eq!(client::names(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await.unwrap(), []);
    }
    assert!(TcpStream::connect((at(3), port)).await.is_err(), "on no other address");
}

async fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = u16::try_from(request.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, request].concat()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn the_client_and_the_server_interoperate() {
    let (server, address) = started();
    let registration = client::register(address, "here", 4711, false).await.unwrap();
    assert_eq!(client::names(address).await.unwrap(), [("here".to_owned(), 4711)]);
    assert_eq!(client::port(address, "here").await.unwrap(), Some(4711));
    assert!(matches!(client::register(address, "here", 1, false).await, Err(client::Error::NameTaken(_))));
    registration.unregister().await;
    assert_eq!(client::port(address, "here").await.unwrap(), None);
    let mut registration = client::register(address, "here", 4712, false).await.unwrap();
    drop(server);
    timeout(limits::EPMD_TIME, registration.lost()).await.expect("the end of EPMD is noticed");
}

#[tokio::test]
async fn a_kill_request_ends_the_server_only_without_nodes() {
    let (server, address) = started();
    let registration = client::register(address, "here", 4711, false).await.unwrap();
    assert_eq!(ask(address, b"k").await, b"NO");
    registration.unregister().await;
    assert_eq!(ask(address, b"k").await, b"OK");
    timeout(limits::EPMD_TIME, async {
        while server.serves() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it ends");
}

#[tokio::test]
async fn an_unfinished_request_does_not_delay_the_end() {
    let (server, address) = started();
    let _slow = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(address, b"k").await, b"OK");
    timeout(limits::EPMD_SILENCE / 2, async {
        while server.serves() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it ends");
}

/// Sends the bytes of a request with a pause before each, and returns the request that was read.
async fn slowly(request: &[u8], pause: Duration) -> io::Result<EpmdRequest> {
    let (mut client, mut server) = tokio::io::duplex(limits::EPMD_REQUEST);
    let length = u16::try_from(request.len()).unwrap().to_be_bytes();
    let bytes = [&length, request].concat();
    tokio::spawn(async move {
        for byte in bytes {
            tokio::time::sleep(pause).await;
            if client.write_u8(byte).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    });
    request_within_limits(&mut server).await
}

#[tokio::test(start_paused = true)]
async fn a_request_may_be_slow_but_must_not_stop() {
    let longest = [b"z".to_vec(), "\u{1f600}".repeat(limits::EPMD_NAME).into_bytes()].concat();
    let read = slowly(&longest, Duration::from_millis(500)).await;
    assert_eq!(read.unwrap(), EpmdRequest::read(&longest).unwrap());
    assert!(slowly(b"zfoo", limits::EPMD_SILENCE - Duration::from_millis(1)).await.is_ok());
    let silent = slowly(b"zfoo", limits::EPMD_SILENCE + Duration::from_millis(1)).await;
    assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    let begun = tokio::time::Instant::now();
    let endless = slowly(&longest, Duration::from_secs(1)).await;
    assert_eq!(endless.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed(), limits::EPMD_REQUEST_TIME);
}

#[tokio::test]
async fn a_registered_node_that_sends_more_bytes_is_deregistered() {
    let (_server, address) = started();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"\0\x0ex\0\x01M\0\0\x06\0\x05\0\x01n\0\0").await.unwrap();
    stream.read_exact(&mut [0; 6]).await.expect("it is registered");
    stream.write_all(b"x").await.unwrap();
    let end = timeout(limits::EPMD_SILENCE, stream.read(&mut [0])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
    while client::port(address, "n").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn stalled_and_large_requests_do_not_affect_others() {
    let (_server, address) = started();
    let mut silent = Vec::new();
    for _ in 0..=limits::EPMD_UNFINISHED {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    client::register(address, "here", 4711, false).await.expect("a slot is free");
    // The first connection lost its slot, long before the time limit of a request.
    let mut byte = [0];
    let read = timeout(limits::EPMD_TIME / 2, silent[0].read(&mut byte)).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
    let long = vec![b'n'; limits::EPMD_REQUEST + 1];
    assert_eq!(ask(address, &long).await, b"", "the request is too long");
}

/// Connects from 127.0.0.`last`.
async fn connect(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // The port is free again immediately, so that a flood cannot use up the ports of the address.
    socket.set_zero_linger().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn an_evicted_connection_registers_nothing() {
    let mut table = Table::new(4369, 0);
    let mut unfinished = Slots::new(limits::EPMD_UNFINISHED);
    let source = Source::User(1);
    // A node named `n`, at port 1.
    let request = || EpmdRequest::read(b"x\0\x01M\0\0\x06\0\x05\0\x01n\0\0").expect("it is one");
    let ask = |connection, table: &mut Table, unfinished: &mut Slots<Unfinished>| {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { connection, source, request: request(), answer };
        (asked.answer(table, unfinished), answered)
    };
    let task = || tokio::spawn(std::future::pending::<()>()).abort_handle();
    assert!(unfinished.insert(source, Unfinished { connection: 2, task: task() }, |_| false).is_none());
    let (then, mut answered) = ask(1, &mut table, &mut unfinished);
    assert!(then.is_none() && answered.try_recv().is_err(), "the connection has no slot");
    let (then, mut answered) = ask(2, &mut table, &mut unfinished);
    assert!(then == Some(Then::Keep) && answered.try_recv().is_ok(), "the name is free");
    assert_eq!(unfinished.iter().count(), 0);
}

#[tokio::test]
async fn a_flood_from_one_address_does_not_affect_other_addresses() {
    let (_server, address) = started();
    let mut honest = connect(2, address).await;
    let mut silent = Vec::new();
    // Together with the honest connection, this is one too many.
    for _ in 0..limits::EPMD_UNFINISHED {
        silent.push(connect(3, address).await);
    }
    let read = timeout(limits::EPMD_TIME / 2, silent[0].read(&mut [0])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "the flood displaces itself: {read:?}");
    honest.write_all(b"\0\x01n").await.unwrap();
    let mut answer = Vec::new();
    honest.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, u32::from(address.port()).to_be_bytes());
}

#[tokio::test]
async fn the_kernel_checks_connections_that_keep_a_name() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    keep_alive(&stream).unwrap();
    assert!(sockopt::socket_keepalive(&stream).unwrap());
    assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), limits::EPMD_KEEPALIVE);
    assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), limits::EPMD_KEEPALIVE_EVERY);
    assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), limits::EPMD_KEEPALIVE_PROBES);
}

#[tokio::test]
async fn a_burst_waits_to_be_accepted() {
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..256 {
        let connected = timeout(Duration::from_secs(5), TcpStream::connect(address)).await;
        waiting.push(connected.expect("the queue is not full").unwrap());
    }
}
