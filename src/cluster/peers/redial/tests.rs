use std::io;

use beam::dist::HandshakeError;
use beam::dist::setup::SetupError;
use beam::epmd::client::Error as EpmdError;

use super::*;

const MOMENT: Duration = Duration::from_millis(1);

struct Bench {
    redialer: Redialer,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { redialer: Redialer::default(), now: Instant::now() }
    }

    fn run(&mut self, input: RedialInput) -> Vec<String> {
        let mut dial = Vec::new();
        self.redialer.handle(self.now, input, &mut dial);
        dial.iter().map(ToString::to_string).collect()
    }

    fn epmd(&mut self, names: &[(&str, u16)]) -> Vec<String> {
        self.run(RedialInput::Epmd(names.iter().map(|(name, port)| (name.parse().unwrap(), *port)).collect()))
    }

    fn up(&mut self, name: &str, published: bool) -> Vec<String> {
        self.run(RedialInput::Up { name: name.parse().unwrap(), published })
    }

    fn ended(&mut self, name: &str, outcome: Outcome) -> Vec<String> {
        self.run(RedialInput::Dialled { name: name.parse().unwrap(), outcome })
    }

    fn dns(&mut self, names: &[&str]) -> Vec<String> {
        self.run(RedialInput::Dns(names.iter().map(|name| name.parse().unwrap()).collect()))
    }

    fn forgotten(&mut self) -> Vec<String> {
        self.redialer.forgotten(self.now).iter().map(ToString::to_string).collect()
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.run(RedialInput::Tick)
    }
}

#[test]
fn a_name_in_epmd_is_dialled_once_and_again_when_it_fails() {
    let mut bench = Bench::new();
    assert_eq!(bench.epmd(&[("a@h", 1)]), ["a@h"]);
    assert_eq!(bench.epmd(&[("a@h", 1)]), Vec::<String>::new());
    assert_eq!(bench.ended("a@h", Outcome::Failed), Vec::<String>::new());
    assert_eq!(bench.after(FIRST_PAUSE / 2 - MOMENT), Vec::<String>::new());
    assert_eq!(bench.after(FIRST_PAUSE / 2 + MOMENT), ["a@h"]);
    bench.ended("a@h", Outcome::Failed);
    assert_eq!(bench.after(FIRST_PAUSE - MOMENT), Vec::<String>::new(), "the pause doubles");
    assert_eq!(bench.after(FIRST_PAUSE + MOMENT), ["a@h"]);
    bench.ended("a@h", Outcome::Connected);
    assert_eq!(bench.after(LONGEST_PAUSE), Vec::<String>::new());
}

#[test]
fn no_pause_exceeds_the_longest() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    for _ in 0..50 {
        bench.ended("a@h", Outcome::Failed);
        assert_eq!(bench.after(LONGEST_PAUSE), ["a@h"]);
    }
}

#[test]
fn a_lost_node_is_dialled_again() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    bench.ended("a@h", Outcome::Connected);
    bench.run(RedialInput::Down { name: "a@h".parse().unwrap(), left: false });
    assert_eq!(bench.after(FIRST_PAUSE), ["a@h"]);
}

#[test]
fn a_node_that_closes_its_connection_and_still_runs_is_dialled_less_often() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    let mut pauses = Vec::new();
    let close = |bench: &mut Bench| {
        bench.ended("a@h", Outcome::Connected);
        bench.run(RedialInput::Down { name: "a@h".parse().unwrap(), left: true });
        // The same loss in the view does not begin another pause.
        bench.run(RedialInput::Absent(vec![("a@h".parse().unwrap(), true)]));
        bench.epmd(&[("a@h", 1)]);
    };
    for seconds in [10, 20, 40, 60, 60] {
        close(&mut bench);
        let begun = bench.now;
        assert_eq!(bench.after(Duration::from_secs(seconds) - MOMENT), Vec::<String>::new());
        assert_eq!(bench.after(FIRST_WAIT + MOMENT), ["a@h"], "{seconds} s");
        pauses.push(bench.now - begun);
    }
    assert!(pauses.is_sorted());
    // After a failed attempt, the usual pauses apply.
    bench.ended("a@h", Outcome::Failed);
    assert_eq!(bench.after(FIRST_PAUSE * 2), ["a@h"]);
    // After a connection that was lost, or lasted long, the first pause is the shortest again.
    bench.ended("a@h", Outcome::Connected);
    bench.run(RedialInput::Down { name: "a@h".parse().unwrap(), left: false });
    assert_eq!(bench.after(FIRST_PAUSE), ["a@h"]);
    close(&mut bench);
    assert_eq!(bench.after(LEFT_PAUSE + FIRST_WAIT), ["a@h"]);
    bench.ended("a@h", Outcome::Connected);
    bench.after(LONGEST_LEFT_PAUSE);
    close(&mut bench);
    assert_eq!(bench.after(LEFT_PAUSE + FIRST_WAIT), ["a@h"]);
}

#[test]
fn a_node_that_closed_its_connection_is_dialled_at_once_after_its_restart() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    bench.ended("a@h", Outcome::Connected);
    bench.run(RedialInput::Absent(vec![("a@h".parse().unwrap(), true)]));
    assert_eq!(bench.after(FIRST_PAUSE), Vec::<String>::new());
    assert_eq!(bench.epmd(&[("a@h", 2)]), ["a@h"]);
    bench.ended("a@h", Outcome::Connected);
    bench.run(RedialInput::Down { name: "a@h".parse().unwrap(), left: true });
    assert_eq!(bench.after(LEFT_PAUSE + FIRST_WAIT), ["a@h"], "its first orderly close");
}

#[test]
fn a_node_that_was_lost_between_two_views_is_dialled_again() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    bench.ended("a@h", Outcome::Connected);
    bench.run(RedialInput::Absent(vec![("a@h".parse().unwrap(), false)]));
    assert_eq!(bench.after(FIRST_PAUSE), ["a@h"]);
}

#[test]
fn a_name_that_has_left_epmd_is_not_dialled_again() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    bench.ended("a@h", Outcome::Connected);
    bench.run(RedialInput::Down { name: "a@h".parse().unwrap(), left: false });
    bench.epmd(&[]);
    assert_eq!(bench.after(LONGEST_PAUSE), Vec::<String>::new());
    assert_eq!(bench.epmd(&[("a@h", 2)]), ["a@h"]);
}

#[test]
fn after_a_refusal_a_name_is_not_dialled_until_its_port_changes_or_five_minutes_have_passed() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    bench.ended("a@h", Outcome::Refused);
    assert_eq!(bench.after(LONGEST_PAUSE * 2), Vec::<String>::new());
    assert_eq!(bench.epmd(&[("a@h", 1)]), Vec::<String>::new());
    assert_eq!(bench.epmd(&[("a@h", 2)]), ["a@h"]);
    bench.ended("a@h", Outcome::Refused);
    assert_eq!(bench.after(REFUSED_PAUSE), ["a@h"], "after 5 min");
}

/// Returns at least one error for each code.
fn errors() -> Vec<DialError> {
    let (io, address) = (|| io::Error::from(io::ErrorKind::ConnectionRefused), ([127, 0, 0, 1], 9).into());
    let name = |name: &str| name.parse::<NodeName>().unwrap();
    let handshakes = [
        HandshakeError::CookieMismatch,
        HandshakeError::NameMismatch(name("b@h")),
        HandshakeError::FlagsMissing(1),
        HandshakeError::NotAllowed,
        HandshakeError::Reflected,
        HandshakeError::AlreadyAlive,
        HandshakeError::Simultaneous,
        HandshakeError::Malformed("status"),
        HandshakeError::BadName,
        HandshakeError::UnexpectedStatus,
    ];
    let setups = [SetupError::TlsExpected, SetupError::ProofRefused, SetupError::TimedOut, SetupError::Io(io())];
    let others = [
        DialError::Mixed { theirs: name("a@h.lab"), ours: name("us@h") },
        DialError::HostUnresolved("h".to_owned(), io()),
        DialError::Epmd(EpmdError::TimedOut(address)),
        DialError::NotRegistered,
        DialError::Refused(address, io()),
        DialError::TcpTimedOut(address),
        DialError::ForeignOwner { address, owner: Some(7) },
        DialError::ForeignOwner { address, owner: None },
    ];
    let handshakes = handshakes.map(|error| DialError::Setup(error.into()));
    handshakes.into_iter().chain(setups.map(DialError::Setup)).chain(others).collect()
}

#[test]
fn each_error_has_its_outcome_and_its_pause() {
    let refusals = [
        "cookie_mismatch",
        "flags_missing",
        "foreign_owner",
        "name_mismatch",
        "not_allowed",
        "shortname_longname_mix",
        "tls_expected",
    ];
    let errors = errors();
    for code in DialCode::ALL {
        assert!(errors.iter().any(|error| error.code() == code), "{code:?} is not tested");
    }
    for error in &errors {
        let is_refusal = refusals.contains(&error.code().name());
        let outcome = Outcome::of(error, &"a@h".parse().unwrap(), |_| false);
        assert_eq!(outcome, if is_refusal { Outcome::Refused } else { Outcome::Failed }, "{error}");
        let mut bench = Bench::new();
        bench.epmd(&[("a@h", 1)]);
        bench.ended("a@h", outcome);
        assert_eq!(bench.after(FIRST_PAUSE).is_empty(), is_refusal, "{error}");
        if is_refusal {
            assert_eq!(bench.after(REFUSED_PAUSE - FIRST_PAUSE - MOMENT), Vec::<String>::new(), "{error}");
            assert_eq!(bench.epmd(&[("a@h", 2)]), ["a@h"], "{error}: another process has the name");
        }
    }
}

#[test]
fn only_an_alias_of_the_dialled_node_is_dialled_instead() {
    let calls_itself = |other: &str| DialError::Setup(HandshakeError::NameMismatch(other.parse().unwrap()).into());
    let outcome = |other: &str, is_alias| Outcome::of(&calls_itself(other), &"a@h".parse().unwrap(), |_| is_alias);
    assert_eq!(outcome("a@localhost", true), Outcome::CallsItself("a@localhost".parse().unwrap()));
    assert_eq!(outcome("a@localhost", false), Outcome::Refused, "on another host");
    assert_eq!(outcome("b@localhost", true), Outcome::Refused, "another node");
}

#[test]
fn a_node_with_another_name_is_dialled_by_that_name_from_then_on() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    assert_eq!(bench.ended("a@h", Outcome::CallsItself("a@localhost".parse().unwrap())), ["a@localhost"]);
    bench.ended("a@localhost", Outcome::Connected);
    assert_eq!(bench.epmd(&[("a@h", 1)]), Vec::<String>::new());
    bench.run(RedialInput::Down { name: "a@localhost".parse().unwrap(), left: false });
    assert_eq!(bench.after(FIRST_PAUSE), ["a@localhost"]);
}

#[test]
fn a_node_that_goes_back_to_its_first_name_is_not_dialled_endlessly() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    bench.ended("a@h", Outcome::CallsItself("a@localhost".parse().unwrap()));
    bench.ended("a@localhost", Outcome::Connected);
    bench.run(RedialInput::Down { name: "a@localhost".parse().unwrap(), left: false });
    bench.after(FIRST_PAUSE);
    assert_eq!(bench.ended("a@localhost", Outcome::CallsItself("a@h".parse().unwrap())), ["a@h"]);
    bench.ended("a@h", Outcome::Connected);
    for _ in 0..5 {
        assert_eq!(bench.epmd(&[("a@h", 2)]), Vec::<String>::new());
    }
}

#[test]
fn a_configured_node_of_this_host_is_dialled_at_once_after_its_restart() {
    let mut bench = Bench::new();
    bench.run(RedialInput::Configured(vec!["c@h".parse().unwrap()]));
    assert_eq!(bench.epmd(&[("c@h", 1)]), ["c@h"], "EPMD has it, so there is no wait");
    bench.ended("c@h", Outcome::Refused);
    assert_eq!(bench.epmd(&[("c@h", 1)]), Vec::<String>::new());
    assert_eq!(bench.epmd(&[("c@h", 2)]), ["c@h"]);
}

#[test]
fn a_name_that_only_peers_report_is_dropped_after_failures_and_a_configured_one_is_not() {
    let mut bench = Bench::new();
    bench.run(RedialInput::Learned(vec!["l@h".parse().unwrap()]));
    bench.run(RedialInput::Configured(vec!["c@h".parse().unwrap()]));
    assert_eq!(bench.after(FIRST_WAIT), ["c@h", "l@h"]);
    for _ in 0..PATIENCE {
        bench.ended("l@h", Outcome::Failed);
        bench.ended("c@h", Outcome::Failed);
        bench.after(LONGEST_PAUSE);
    }
    bench.ended("c@h", Outcome::Failed);
    assert_eq!(bench.after(LONGEST_PAUSE), ["c@h"]);
    bench.run(RedialInput::Learned(vec!["l@h".parse().unwrap()]));
    assert_eq!(bench.after(FIRST_WAIT), ["l@h"], "reported again, it is dialled again");
}

#[test]
fn a_node_that_has_connected_to_us_is_not_dialled() {
    let mut bench = Bench::new();
    bench.up("a@h", true);
    assert_eq!(bench.epmd(&[("a@h", 1)]), Vec::<String>::new());
    bench.run(RedialInput::Learned(vec!["a@h".parse().unwrap()]));
    assert_eq!(bench.after(FIRST_WAIT), Vec::<String>::new());
}

#[test]
fn the_redialer_is_settled_when_each_name_was_tried_once() {
    let mut bench = Bench::new();
    assert!(!bench.redialer.settled());
    bench.epmd(&[("a@h", 1), ("b@h", 2)]);
    bench.ended("a@h", Outcome::Connected);
    assert!(!bench.redialer.settled());
    bench.ended("b@h", Outcome::Failed);
    assert!(bench.redialer.settled());
}

#[test]
fn the_redialer_is_not_settled_before_dns_has_answered_or_failed() {
    for answer in [RedialInput::Dns(Vec::new()), RedialInput::Unanswered(Asked::Dns)] {
        let mut bench = Bench { redialer: Redialer::new([Asked::Epmd, Asked::Dns], 0), ..Bench::new() };
        bench.epmd(&[]);
        assert!(!bench.redialer.settled());
        bench.run(answer);
        assert!(bench.redialer.settled());
    }
}

#[test]
fn a_name_is_dialled_as_long_as_it_is_in_dns() {
    let mut bench = Bench::new();
    bench.dns(&["hecate@10.0.0.1", "hecate@10.0.0.2"]);
    assert_eq!(bench.after(FIRST_WAIT), ["hecate@10.0.0.1", "hecate@10.0.0.2"]);
    bench.ended("hecate@10.0.0.1", Outcome::Failed);
    bench.ended("hecate@10.0.0.2", Outcome::Connected);
    bench.run(RedialInput::Unanswered(Asked::Dns));
    assert_eq!(bench.after(FIRST_PAUSE), ["hecate@10.0.0.1"], "after a failure of DNS, its names are kept");
    // It leaves DNS while it is being dialled, for the last time.
    bench.dns(&["hecate@10.0.0.2"]);
    bench.ended("hecate@10.0.0.1", Outcome::Failed);
    assert_eq!(bench.after(LONGEST_PAUSE), Vec::<String>::new());
    // The other one leaves DNS while it is connected, and is not dialled after it disconnects.
    bench.dns(&[]);
    bench.run(RedialInput::Down { name: "hecate@10.0.0.2".parse().unwrap(), left: false });
    assert_eq!(bench.after(LONGEST_PAUSE), Vec::<String>::new());
    bench.dns(&["hecate@10.0.0.1"]);
    assert_eq!(bench.after(FIRST_WAIT), ["hecate@10.0.0.1"]);
}

#[test]
fn a_name_is_dialled_as_long_as_one_source_names_it() {
    let mut bench = Bench::new();
    let name = "hecate@10.0.0.1";
    bench.dns(&[name]);
    bench.run(RedialInput::Configured(vec![name.parse().unwrap()]));
    bench.after(FIRST_WAIT);
    bench.dns(&[]);
    for _ in 0..=PATIENCE {
        bench.ended(name, Outcome::Failed);
        assert_eq!(bench.after(LONGEST_PAUSE), [name]);
    }
}

#[test]
fn a_node_with_two_addresses_is_dialled_by_the_one_in_its_name() {
    let mut bench = Bench::new();
    let (v4, v6) = ("hecate@10.0.0.1", "hecate@fd00::1");
    bench.dns(&[v4, v6]);
    assert_eq!(bench.after(FIRST_WAIT), [v4, v6]);
    bench.ended(v4, Outcome::Connected);
    assert!(bench.redialer.is_in_dns(v4) && bench.redialer.is_in_dns(v6));
    bench.ended(v6, Outcome::CallsItself(v4.parse().unwrap()));
    for _ in 0..3 {
        bench.dns(&[v4, v6]);
        assert_eq!(bench.after(LONGEST_PAUSE), Vec::<String>::new());
    }
    // The address goes to another node.
    bench.dns(&[v4]);
    bench.dns(&[v4, v6]);
    assert_eq!(bench.after(FIRST_WAIT), [v6]);
}

#[test]
fn a_disconnected_node_that_no_source_names_is_forgotten() {
    let mut bench = Bench::new();
    let absent = |bench: &mut Bench| {
        let absent = ["d1f@h", "hecate_traderd@h", "hecate@far"];
        bench.run(RedialInput::Absent(absent.map(|name| (name.parse().unwrap(), false)).into()));
    };
    bench.run(RedialInput::Configured(vec!["hecate@far".parse().unwrap()]));
    bench.epmd(&[("hecate_traderd@h", 1)]);
    absent(&mut bench);
    bench.after(limits::PEER_MEMORY - MOMENT);
    absent(&mut bench);
    assert_eq!(bench.forgotten(), Vec::<String>::new());
    assert!(bench.redialer.next_deadline() <= Some(bench.now + MOMENT));
    bench.after(MOMENT);
    assert_eq!(bench.forgotten(), ["d1f@h"], "no source names it");
    assert_eq!(bench.forgotten(), Vec::<String>::new(), "once");
    // This one leaves EPMD, and is kept for the same time. The configured one is kept forever.
    bench.ended("hecate_traderd@h", Outcome::Failed);
    bench.epmd(&[]);
    bench.after(limits::PEER_MEMORY - MOMENT);
    assert_eq!(bench.forgotten(), Vec::<String>::new());
    bench.after(MOMENT);
    assert_eq!(bench.forgotten(), ["hecate_traderd@h"]);
}

#[test]
fn a_name_that_only_peers_report_is_dropped_after_refusals() {
    let mut bench = Bench::new();
    bench.run(RedialInput::Learned(vec!["l@h".parse().unwrap()]));
    bench.after(FIRST_WAIT);
    for _ in 1..PATIENCE {
        bench.ended("l@h", Outcome::Refused);
        assert_eq!(bench.after(REFUSED_PAUSE), ["l@h"]);
    }
    bench.ended("l@h", Outcome::Refused);
    assert_eq!(bench.after(REFUSED_PAUSE), Vec::<String>::new());
}

/// Returns the times, in order, at which 1000 nodes with different seeds dial after the same input.
fn moments(within: Duration, dialled: impl Fn(&mut Bench)) -> Vec<Duration> {
    let node = |random| {
        let mut bench = Bench { redialer: Redialer::new([Asked::Epmd], random), ..Bench::new() };
        dialled(&mut bench);
        let at = bench.redialer.next_deadline().expect("a node to dial") - bench.now;
        assert!(at <= within);
        at
    };
    let mut moments: Vec<Duration> = (0..1000u64).map(|i| node(i.wrapping_mul(0x1234_5678_9abc_def1))).collect();
    moments.sort();
    moments
}

#[test]
fn many_nodes_do_not_dial_at_the_same_moment() {
    let down = |bench: &mut Bench| {
        bench.epmd(&[("a@h", 1)]);
        bench.ended("a@h", Outcome::Connected);
        bench.run(RedialInput::Down { name: "a@h".parse().unwrap(), left: false });
    };
    let failed = |bench: &mut Bench| {
        bench.epmd(&[("a@h", 1)]);
        for _ in 0..20 {
            bench.ended("a@h", Outcome::Failed);
            bench.after(LONGEST_PAUSE);
        }
        bench.ended("a@h", Outcome::Failed);
    };
    for (longest, span, moments) in [
        (
            FIRST_WAIT,
            FIRST_WAIT,
            moments(FIRST_WAIT, |bench| {
                bench.dns(&["a@h"]);
            }),
        ),
        (FIRST_PAUSE, FIRST_PAUSE / 2, moments(FIRST_PAUSE, down)),
        (LONGEST_PAUSE, LONGEST_PAUSE / 2, moments(LONGEST_PAUSE, failed)),
    ] {
        // Each tenth of the time has about a tenth of the nodes.
        for tenth in 0..10u32 {
            let from = longest - span + span * tenth / 10;
            let count = moments.iter().filter(|at| (from..from + span / 10).contains(at)).count();
            assert!((50..=150).contains(&count), "{count} of 1000 at {from:?}");
        }
    }
}

#[test]
fn the_number_of_names_is_bounded() {
    let mut bench = Bench::new();
    let names = (0..beam::limits::KNOWN_NODES + 10).map(|i| format!("n{i}@h").parse().unwrap()).collect();
    let at_once = bench.run(RedialInput::Learned(names)).len();
    assert_eq!(at_once + bench.after(FIRST_WAIT).len(), beam::limits::KNOWN_NODES);
}

#[test]
fn a_hidden_node_that_disconnected_is_dialled_again_only_if_a_source_names_it() {
    let mut bench = Bench::new();
    for (name, published) in [("seen@h", true), ("hidden@h", false), ("hecate_hidden@h", false)] {
        bench.up(name, published);
    }
    assert_eq!(bench.epmd(&[("hecate_hidden@h", 1)]), ["hecate_hidden@h"]);
    bench.ended("hecate_hidden@h", Outcome::Connected);
    for name in ["seen@h", "hidden@h", "hecate_hidden@h"] {
        bench.run(RedialInput::Down { name: name.parse().unwrap(), left: false });
    }
    assert_eq!(bench.after(FIRST_PAUSE), ["hecate_hidden@h", "seen@h"]);
}
