//! Peers that send the daemon's own challenge back get no usable answer.

use super::*;

/// A peer without the cookie. It tries to make the daemon answer its own challenge.
struct Thief {
    name: String,
    listener: tokio::net::TcpListener,
    _registered: std::net::TcpStream,
}

impl Thief {
    /// Starts the peer and registers it in EPMD, where the daemon finds and dials it.
    async fn start(host: &Host, epmd: &Epmd, short: &str) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let registered = epmd.register(short, listener.local_addr().unwrap().port());
        Self { name: host.node(short), listener, _registered: registered }
    }

    /// Accepts the daemon's next connection, and completes the handshake up to the challenge.
    async fn is_dialled(&self) -> TcpStream {
        let (mut stream, _) =
            timeout(PATIENCE, self.listener.accept()).await.expect("the daemon dials the node").unwrap();
        assert_eq!(receive(&mut stream).await.unwrap()[0], b'N');
        send(&mut stream, b"sok").await;
        stream
    }

    /// Returns the name packet, with a challenge if the daemon dialled this node.
    fn name_packet(&self, challenge: Option<u32>) -> Vec<u8> {
        let challenge = challenge.map(u32::to_be_bytes);
        let challenge = challenge.as_ref().map_or(&[][..], |bytes| &bytes[..]);
        let length = u16::try_from(self.name.len()).unwrap().to_be_bytes();
        let flags = flags::ours(false).bits().to_be_bytes();
        [b"N", &flags[..], challenge, &7_u32.to_be_bytes(), &length, self.name.as_bytes()].concat()
    }
}

fn challenge_in(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(packet[at..at + 4].try_into().unwrap())
}

/// Dials the daemon as the thief, and returns the challenge that the thief must answer.
async fn challenged(thief: &Thief, port: u16) -> (TcpStream, u32) {
    let mut stream = TcpStream::connect(address(port)).await.unwrap();
    send(&mut stream, &thief.name_packet(None)).await;
    let status = receive(&mut stream).await.unwrap();
    assert!(status.starts_with(b"sok"), "{status:?}");
    let challenge = challenge_in(&receive(&mut stream).await.unwrap(), 9);
    (stream, challenge)
}

/// Relays the daemon's answer to its own challenge, if it sends one, over both connections.
async fn replay_answers(dialled: &mut TcpStream, back: &mut TcpStream) {
    if let Some(answer) = receive(dialled).await {
        // The packet contains the tag, the daemon's challenge and its answer to the thief's. Sent
        // back unchanged, it is both a proof and a challenge.
        send(back, &answer).await;
        if let Some(acknowledged) = receive(back).await {
            send(dialled, &acknowledged).await;
        }
        panic!("the daemon answered its own challenge: {answer:?}");
    }
}

#[tokio::test]
async fn our_own_challenge_is_not_answered_to_a_node_that_we_dial() {
    let host = Host::new();
    let (daemon, epmd, port) = daemon(&host);
    let thief = Thief::start(&host, &epmd, "hecate_thief").await;
    let accomplice = Thief::start(&host, &epmd, "accomplice").await;
    let mut dialled = thief.is_dialled().await;
    // The accomplice uses another name, because the daemon gives up its own dial to a node that
    // dials it.
    let (mut back, challenge) = challenged(&accomplice, port).await;
    send(&mut dialled, &thief.name_packet(Some(challenge))).await;
    replay_answers(&mut dialled, &mut back).await;
    daemon.logs(&["WARN", &thief.name, "this node's own challenge back"]);
    // The thief's other connection has ended, but the challenge is still the daemon's own.
    drop(back);
    let mut dialled = thief.is_dialled().await;
    send(&mut dialled, &thief.name_packet(Some(challenge))).await;
    assert_eq!(receive(&mut dialled).await, None);
    support::wait_for("the failure has its code", || {
        let peers = host.ask("GET", "/api/cluster").body["peers"].clone();
        let peer = peers.as_array().unwrap().iter().find(|peer| peer["name"] == thief.name).cloned();
        peer.is_some_and(|peer| peer["last_failure"]["code"] == "challenge_reflected")
    });
    assert!(daemon.log_lines(&["node up"]).is_empty(), "no node was ever up");
}

#[tokio::test]
async fn a_challenge_for_one_node_that_we_dial_is_not_answered_to_another() {
    let host = Host::new();
    let (daemon, epmd, _) = daemon(&host);
    let (first, second) =
        (Thief::start(&host, &epmd, "hecate_first").await, Thief::start(&host, &epmd, "hecate_second").await);
    let (mut to_first, mut to_second) = tokio::join!(first.is_dialled(), second.is_dialled());
    send(&mut to_first, &first.name_packet(Some(1))).await;
    let ours = challenge_in(&receive(&mut to_first).await.unwrap(), 1);
    send(&mut to_second, &second.name_packet(Some(ours))).await;
    if let Some(answer) = receive(&mut to_second).await {
        send(&mut to_first, &[b"a", &answer[5..]].concat()).await;
        daemon.logs(&["node up", &first.name]);
        panic!("the daemon accepted its own answer");
    }
    daemon.logs(&["WARN", &second.name, "this node's own challenge back"]);
}

#[tokio::test]
async fn our_own_challenge_is_not_answered_after_alive() {
    let host = Host::new();
    let (daemon, epmd, port) = daemon(&host);
    let thief = Thief::start(&host, &epmd, "hecate_thief").await;
    let accomplice = Thief::start(&host, &epmd, "accomplice").await;
    let (mut dialled, _) =
        timeout(PATIENCE, thief.listener.accept()).await.expect("the daemon dials the node").unwrap();
    receive(&mut dialled).await.unwrap();
    send(&mut dialled, b"salive").await;
    assert_eq!(receive(&mut dialled).await.unwrap(), b"strue");
    let (mut back, challenge) = challenged(&accomplice, port).await;
    send(&mut dialled, &thief.name_packet(Some(challenge))).await;
    replay_answers(&mut dialled, &mut back).await;
    daemon.logs(&["WARN", &thief.name, "this node's own challenge back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diagnosis_does_not_answer_a_challenge_of_our_node() {
    let host = Host::new();
    let (daemon, epmd, port) = daemon(&host);
    // No pattern matches this name, so only the diagnosis dials the node.
    let thief = Thief::start(&host, &epmd, "thief").await;
    let (mut back, challenge) = challenged(&thief, port).await;
    let path = format!("/api/cluster/peers/{}/diagnosis", thief.name);
    let (socket, asked) = (host.socket(), tokio::task::spawn_blocking);
    let diagnosis = asked(move || support::http::ask(&socket, "GET", &path, None).unwrap());
    // The diagnosis sends its name first. The peer requests its proof after that.
    let mut sounded = thief.is_dialled().await;
    send(&mut sounded, &thief.name_packet(Some(1))).await;
    let mut trial = thief.is_dialled().await;
    send(&mut trial, &thief.name_packet(Some(challenge))).await;
    replay_answers(&mut trial, &mut back).await;
    assert_eq!(diagnosis.await.unwrap().body["code"], "challenge_reflected");
    assert!(daemon.log_lines(&["node up"]).is_empty(), "no node was ever up");
}
