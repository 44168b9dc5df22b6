use super::*;

struct Bench {
    discovery: Discovery,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { discovery: Discovery::default(), now: Instant::now() }
    }

    fn run(&mut self, input: Input) -> Vec<String> {
        let mut dial = Vec::new();
        self.discovery.handle(self.now, input, &mut dial);
        dial.iter().map(ToString::to_string).collect()
    }

    fn epmd(&mut self, names: &[(&str, u16)]) -> Vec<String> {
        self.run(Input::Epmd(names.iter().map(|(name, port)| (Arc::from(*name), *port)).collect()))
    }

    fn up(&mut self, name: &str, published: bool) -> Vec<String> {
        self.run(Input::Up { name: name.into(), published })
    }

    fn ended(&mut self, name: &str, outcome: Outcome) -> Vec<String> {
        self.run(Input::Dialled { name: name.into(), outcome, jitter: 0 })
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.run(Input::Tick)
    }
}

#[test]
fn a_name_in_epmd_is_dialled_once_and_again_when_it_fails() {
    let mut bench = Bench::new();
    assert_eq!(bench.epmd(&[("a@h", 1)]), ["a@h"]);
    assert_eq!(bench.epmd(&[("a@h", 1)]), Vec::<String>::new());
    assert_eq!(bench.ended("a@h", Outcome::Failed), Vec::<String>::new());
    assert_eq!(bench.after(FIRST_PAUSE), ["a@h"]);
    bench.ended("a@h", Outcome::Failed);
    assert_eq!(bench.after(FIRST_PAUSE), Vec::<String>::new(), "the pause doubles");
    assert_eq!(bench.after(FIRST_PAUSE), ["a@h"]);
    bench.ended("a@h", Outcome::Connected);
    assert_eq!(bench.after(LONGEST_PAUSE), Vec::<String>::new());
}

#[test]
fn pauses_have_a_longest() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    for _ in 0..50 {
        bench.ended("a@h", Outcome::Failed);
        assert_eq!(bench.after(LONGEST_PAUSE), ["a@h"]);
    }
}

#[test]
fn a_lost_connection_is_made_again() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    bench.ended("a@h", Outcome::Connected);
    bench.run(Input::Down("a@h".into()));
    assert_eq!(bench.after(FIRST_PAUSE), ["a@h"]);
}

#[test]
fn a_name_that_has_left_epmd_is_dialled_no_more() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    bench.ended("a@h", Outcome::Connected);
    bench.run(Input::Down("a@h".into()));
    bench.epmd(&[]);
    assert_eq!(bench.after(LONGEST_PAUSE), Vec::<String>::new());
    assert_eq!(bench.epmd(&[("a@h", 2)]), ["a@h"]);
}

#[test]
fn after_a_refusal_a_name_rests_until_its_port_changes() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    bench.ended("a@h", Outcome::Refused);
    assert_eq!(bench.after(LONGEST_PAUSE * 2), Vec::<String>::new());
    assert_eq!(bench.epmd(&[("a@h", 1)]), Vec::<String>::new());
    assert_eq!(bench.epmd(&[("a@h", 2)]), ["a@h"]);
    bench.ended("a@h", Outcome::Refused);
    assert_eq!(bench.after(REST), ["a@h"], "one try in five minutes");
}

#[test]
fn a_node_that_calls_itself_otherwise_is_dialled_by_that_name_from_then_on() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    assert_eq!(bench.ended("a@h", Outcome::CallsItself("a@localhost".into())), ["a@localhost"]);
    bench.ended("a@localhost", Outcome::Connected);
    assert_eq!(bench.epmd(&[("a@h", 1)]), Vec::<String>::new());
    bench.run(Input::Down("a@localhost".into()));
    assert_eq!(bench.after(FIRST_PAUSE), ["a@localhost"]);
}

#[test]
fn a_node_that_goes_back_to_its_first_name_is_not_dialled_for_ever() {
    let mut bench = Bench::new();
    bench.epmd(&[("a@h", 1)]);
    bench.ended("a@h", Outcome::CallsItself("a@localhost".into()));
    bench.ended("a@localhost", Outcome::Connected);
    bench.run(Input::Down("a@localhost".into()));
    bench.after(FIRST_PAUSE);
    assert_eq!(bench.ended("a@localhost", Outcome::CallsItself("a@h".into())), ["a@h"]);
    bench.ended("a@h", Outcome::Connected);
    for _ in 0..5 {
        assert_eq!(bench.epmd(&[("a@h", 2)]), Vec::<String>::new());
    }
}

#[test]
fn a_configured_node_of_this_host_is_tried_at_once_when_it_is_started_anew() {
    let mut bench = Bench::new();
    bench.run(Input::Configured(vec!["c@h".into()]));
    bench.epmd(&[("c@h", 1)]);
    bench.ended("c@h", Outcome::Refused);
    assert_eq!(bench.epmd(&[("c@h", 1)]), Vec::<String>::new());
    assert_eq!(bench.epmd(&[("c@h", 2)]), ["c@h"]);
}

#[test]
fn what_only_peers_know_is_given_up_in_the_end_and_what_was_configured_is_not() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(Input::Learned(vec!["l@h".into()])), ["l@h"]);
    assert_eq!(bench.run(Input::Configured(vec!["c@h".into()])), ["c@h"]);
    for _ in 0..PATIENCE {
        bench.ended("l@h", Outcome::Failed);
        bench.ended("c@h", Outcome::Failed);
        bench.after(LONGEST_PAUSE);
    }
    bench.ended("c@h", Outcome::Failed);
    assert_eq!(bench.after(LONGEST_PAUSE), ["c@h"]);
    assert_eq!(bench.run(Input::Learned(vec!["l@h".into()])), ["l@h"], "learned anew, it is tried anew");
}

#[test]
fn whoever_connects_to_us_is_not_dialled() {
    let mut bench = Bench::new();
    bench.up("a@h", true);
    assert_eq!(bench.epmd(&[("a@h", 1)]), Vec::<String>::new());
    assert_eq!(bench.run(Input::Learned(vec!["a@h".into()])), Vec::<String>::new());
}

#[test]
fn it_has_settled_when_each_name_was_tried_once() {
    let mut bench = Bench::new();
    assert!(!bench.discovery.settled());
    bench.epmd(&[("a@h", 1), ("b@h", 2)]);
    bench.ended("a@h", Outcome::Connected);
    assert!(!bench.discovery.settled());
    bench.ended("b@h", Outcome::Failed);
    assert!(bench.discovery.settled());
}

#[test]
fn the_number_of_names_is_bounded() {
    let mut bench = Bench::new();
    let names = (0..limits::KNOWN_NODES + 10).map(|i| Arc::from(format!("n{i}@h"))).collect();
    assert_eq!(bench.run(Input::Learned(names)).len(), limits::KNOWN_NODES);
}

#[test]
fn a_node_that_went_is_dialled_again_a_hidden_one_only_where_it_is_looked_for() {
    let mut bench = Bench::new();
    for (name, published) in [("seen@h", true), ("hidden@h", false), ("hecate_hidden@h", false)] {
        bench.up(name, published);
    }
    assert_eq!(bench.epmd(&[("hecate_hidden@h", 1)]), ["hecate_hidden@h"]);
    bench.ended("hecate_hidden@h", Outcome::Connected);
    for name in ["seen@h", "hidden@h", "hecate_hidden@h"] {
        bench.run(Input::Down(name.into()));
    }
    assert_eq!(bench.after(FIRST_PAUSE), ["hecate_hidden@h", "seen@h"]);
}
