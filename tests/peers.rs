//! Other implementations: of the handshake, and of a client of a real node.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation fails the test")]

mod support;

use std::net::Ipv4Addr;

use erl_dist::DistributionFlags;
use erl_dist::LOWEST_DISTRIBUTION_PROTOCOL_VERSION;
use erl_dist::handshake::{ClientSideHandshake, HandshakeStatus};
use erl_dist::node::{Creation, LocalNode, PeerNode};
use support::{Host, PATIENCE};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// Connects to the node at `port` as `name`, with the handshake of erl_dist.
async fn shake(name: &str, port: u16, version: u16, cookie: &str) -> Option<PeerNode> {
    let local = LocalNode::new(name.parse().unwrap(), Creation::random());
    shake_as(local, port, version, cookie).await.map(|(_, peer)| peer)
}

async fn shake_as(local: LocalNode, port: u16, version: u16, cookie: &str) -> Option<(Compat<TcpStream>, PeerNode)> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let mut handshake = ClientSideHandshake::new(stream.compat(), local, cookie);
    let status = handshake.execute_send_name(version).await.unwrap();
    assert!(matches!(status, HandshakeStatus::Ok), "{status:?}");
    handshake.execute_rest(true).await.ok()
}

#[tokio::test]
async fn another_implementation_connects_with_both_handshake_versions() {
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let ours = daemon.ready();
    let port = epmd.port_of("hecate");
    for version in [6, LOWEST_DISTRIBUTION_PROTOCOL_VERSION] {
        // Another name each time, because the previous peer may still be connected.
        let name = format!("version_{version}@localhost");
        let peer = shake(&name, port, version, &host.cookie).await.expect("the cookie is right");
        assert_eq!(peer.name.to_string(), ours, "version {version}");
        support::wait_for("the peer is disconnected", || host.peer(&name).as_deref() == Some("disconnected"));
    }
    assert!(shake("stranger@localhost", port, 6, "another").await.is_none(), "the cookie is wrong");
}

#[tokio::test]
async fn a_real_node_lists_the_daemon_for_another_client() {
    let host = Host::new();
    let epmd = host.epmd();
    let daemon = host.daemon(&[]);
    let ours = daemon.ready();
    let mut erl = host.erl("hecate_traderd@localhost");
    erl.eval_until("nodes()", &format!("[{ours}]"), PATIENCE);
    let port = epmd.port_of("hecate_traderd");
    let client =
        erl_rpc::RpcClient::connect_with_port("hecate_traderd@localhost", port, &host.cookie).await.expect("connects");
    let mut handle = client.handle();
    let running = tokio::spawn(client.run());
    let nodes = handle.call("erlang".into(), "nodes".into(), eetf::List::nil()).await.expect("an answer");
    let expected = eetf::List::from(vec![eetf::Atom::from(ours.as_str()).into()]);
    assert_eq!(nodes, eetf::Term::from(expected));
    running.abort();
}

/// A peer that is silent for half of the tick time is probed with a monitor, if it supports
/// monitors.
#[tokio::test]
async fn a_silent_peer_without_monitors_gets_only_ticks() {
    let (host, epmd, daemon) = Host::running(&[("HECATE_NET_TICKTIME", "4")]);
    let port = epmd.port_of("hecate");
    // The flags of `ei` 5.3, with and without the one for monitors of names, which it lacks.
    let until_the_end = async |name: &str, bits: u64| {
        let mut local = LocalNode::new(name.parse().unwrap(), Creation::random());
        local.flags = DistributionFlags::from_bits_truncate(bits);
        let (stream, _) = shake_as(local, port, 6, &host.cookie).await.expect("the cookie is right");
        let mut bytes = Vec::new();
        stream.into_inner().read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    let (without, with) =
        tokio::join!(until_the_end("without@localhost", 0x4_0707_4F9C), until_the_end("with@localhost", 0x4_0707_4FBC));
    assert!(!without.is_empty() && without.iter().all(|byte| *byte == 0), "{without:?}");
    assert!(with.windows(4).any(|bytes| bytes == [112, 131, 104, 4]), "{with:?}");
    daemon.logs(&["without@localhost", "net_tick_timeout"]);
}
