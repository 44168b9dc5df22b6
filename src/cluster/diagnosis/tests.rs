use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use beam::etf::Term;
use beam::node::Watched;
use beam::node::task;
use beam::node::{Answer, BadArg, Caller, Functions};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::report::Outcome;
use super::*;
use crate::cluster::view::{DialFailure, Introduction, PeerView};

struct Nothing;

impl Functions for Nothing {
    fn call(&mut self, _: &Atom, _: &Atom, _: &[Term], _: &Caller) -> Option<Result<Answer, BadArg>> {
        None
    }
}

fn dialer(epmd_port: u16) -> Dialer {
    Dialer {
        epmd_port,
        default_port: None,
        this_host: BTreeSet::from(["h", "localhost"].map(str::to_owned)),
        allowed_uids: BTreeSet::from([rustix::process::getuid().as_raw()]),
    }
}

/// Starts a node with the cookie of all tests, and returns its handle and port.
async fn node(name: &str, dialer: Dialer) -> (Handle, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let identity = Identity {
        name: name.parse().unwrap(),
        creation: 4,
        flags: flags::ours(false),
        cookie: Cookie::parse(b"cookie").unwrap(),
        challenges: Challenges::default(),
    };
    let settings = task::NodeSettings {
        identity,
        dialer,
        scopes: vec![],
        watched: Watched { tag: Atom::literal("tag"), group: Atom::literal("group") },
        functions: Box::new(Nothing),
        program: crate::cluster::peers::questions::PROGRAM,
        tick_time: Duration::from_secs(60),
        peer_memory: beam::limits::PEER_BYTES,
    };
    (task::start(listener, settings).0, port)
}

/// Starts the node `us@h`, and returns its diagnostician. EPMD has the port `epmd_port`.
async fn diagnostician(epmd_port: u16, peers: Vec<PeerView>) -> Diagnostician {
    let dialer = dialer(epmd_port);
    let (handle, _) = node("us@h", dialer.clone()).await;
    let view = ClusterView { node: Some("us@h".parse().unwrap()), peers, ..ClusterView::default() };
    let settings = DiagnosisSettings {
        dialer,
        cookie: Cookie::parse(b"cookie").unwrap(),
        challenges: Challenges::default(),
        hidden: false,
        scopes: vec!["pg".to_owned()],
        tick_time: Duration::from_secs(60),
    };
    Diagnostician::new(settings, watch::channel(Arc::new(view)).1, watch::channel(Some(handle)).1)
}

fn code(report: &Report) -> Option<(Stage, &'static str)> {
    report.first_failure().map(|(finding, failure)| (finding.stage, failure.code))
}

#[tokio::test]
async fn a_diagnosis_that_takes_too_long_reports_the_stages_so_far() {
    let (_node, port) = node("x@h", dialer(1)).await;
    let epmd = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let diagnostician = diagnostician(epmd.local_addr().unwrap().port(), vec![]).await;
    tokio::spawn(async move {
        let (mut stream, _) = epmd.accept().await.unwrap();
        stream.write_all(format!("\0\0\x11\x11name x at port {port}\n").as_bytes()).await.unwrap();
    });
    // Another trial does not end.
    let _trial = diagnostician.trial.acquire().await.unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let report = diagnostician.diagnose(&NodeName::parse("x@h").unwrap()).await.unwrap();
    let promised = Duration::from_secs(27)..Duration::from_millis(27_100);
    assert!(promised.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(report.findings[1].outcome, Outcome::Passed, "{report:?}");
    assert_eq!(code(&report), Some((Stage::Flags, "diagnosis_timeout")));
}

#[tokio::test]
async fn the_own_node_is_not_diagnosed() {
    for name in ["us@h", "us@localhost"] {
        let report = diagnostician(1, vec![]).await.diagnose(&NodeName::parse(name).unwrap()).await.unwrap();
        assert_eq!(code(&report), Some((Stage::Name, "ourselves")), "{name}");
    }
}

#[test]
fn a_node_that_refused_our_cookie_is_not_tried_for_five_minutes() {
    let refused = |code, ago, attempts| PeerDetails {
        introduced_by: Some(Introduction::Epmd),
        attempts,
        last_failure: Some(DialFailure { code, detail: String::new(), at: SystemTime::now() - ago }),
        link: None,
    };
    let second = Duration::from_secs(1);
    assert!(time_since_refusal(&refused(DialCode::CookieMismatch, second, 1)).is_some());
    assert_eq!(time_since_refusal(&refused(DialCode::TcpRefused, second, 1)), None);
    assert_eq!(time_since_refusal(&refused(DialCode::CookieMismatch, redial::REFUSED_PAUSE, 1)), None, "5 min later");
    assert_eq!(time_since_refusal(&refused(DialCode::CookieMismatch, second, 0)), None, "it has connected since");
    assert_eq!(time_since_refusal(&PeerDetails::default()), None);
}
