//! Tests of the registry's rules with a fake clock.

mod node;
mod refusing;
mod registration;
mod socket;
mod start;

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::files::Inode;
use crate::layout::SocketState;
use crate::plugin::sample::{self, name};
use crate::registry::effect::RegistryEffect as E;

const NODE: &str = "hecate_traderd@host";
const DEAD: SocketState = SocketState::Refuses(Inode { device: 1, number: 1 });
const SECOND: Duration = Duration::from_secs(1);

/// A state with a fake clock, and its events and effects.
struct World {
    state: State,
    now: Now,
    events: Vec<Event>,
    effects: Vec<RegistryEffect>,
}

impl World {
    fn new() -> Self {
        Self::with(0, &[])
    }

    fn with(revision: u64, plugins: &[Plugin]) -> Self {
        let now = Now { instant: Instant::now(), time: UNIX_EPOCH + Duration::from_secs(1_700_000_000) };
        let plugins = plugins.iter().map(|plugin| (plugin.name.clone(), Arc::new(plugin.clone()))).collect();
        let state = State::new(Config::default(), now, revision, plugins);
        Self { state, now, events: Vec::new(), effects: Vec::new() }
    }

    fn input(&mut self, input: RegistryInput) -> &mut Self {
        self.run(|state, now, out| state.handle(now, input, out));
        self
    }

    fn run<T>(&mut self, work: impl FnOnce(&mut State, Now, &mut Vec<E>) -> T) -> T {
        let mut out = Vec::new();
        let result = work(&mut self.state, self.now, &mut out);
        // The check is slow for many entries.
        if self.state.entries.len() < 100 {
            self.check();
        }
        for effect in out {
            match effect {
                E::Store(event) => self.events.push(event),
                effect => self.effects.push(effect),
            }
        }
        result
    }

    /// Checks the index of the entries and the number of running plugins.
    fn check(&self) {
        self.state.entries.check();
        let view = self.state.view();
        let running = view.plugins.values().filter(|plugin| plugin.status == Status::Running);
        assert_eq!(view.running, running.count());
    }

    fn register(&mut self, registration: Registration) -> Result<Arc<Plugin>, Refusal> {
        self.register_from(registration, None)
    }

    fn register_from(&mut self, registration: Registration, process: Option<Process>) -> Result<Arc<Plugin>, Refusal> {
        self.run(|state, now, out| state.register(now, registration, process, out))
    }

    fn deregister(&mut self, plugin: &str) -> Result<Arc<Plugin>, Refusal> {
        self.run(|state, now, out| state.deregister(now, name(plugin), out))
    }

    fn up(&mut self, node: &str) -> &mut Self {
        self.input(RegistryInput::Membership(Membership::NodeUp { node: node.parse().unwrap(), on_this_host: true }))
    }

    fn up_elsewhere(&mut self, node: &str) -> &mut Self {
        self.input(RegistryInput::Membership(Membership::NodeUp { node: node.parse().unwrap(), on_this_host: false }))
    }

    fn down(&mut self, node: &str) -> &mut Self {
        self.input(RegistryInput::Membership(Membership::NodeDown {
            node: node.parse().unwrap(),
            reason: "net_tick_timeout".into(),
        }))
    }

    fn refused(&mut self, node: &str, code: &'static str) -> &mut Self {
        self.input(RegistryInput::Membership(Membership::NodeRefused { node: node.parse().unwrap(), code }))
    }

    fn ended(&mut self, node: &str) -> &mut Self {
        self.input(RegistryInput::Membership(Membership::NodeEnded { node: node.parse().unwrap() }))
    }

    fn announce(&mut self, plugin: &str, node: &str) -> &mut Self {
        self.input(RegistryInput::Membership(Membership::Announced {
            plugin: name(plugin),
            node: node.parse().unwrap(),
        }))
    }

    fn withdraw(&mut self, plugin: &str, node: &str) -> &mut Self {
        self.input(RegistryInput::Membership(Membership::Withdrawn {
            plugin: name(plugin),
            node: node.parse().unwrap(),
        }))
    }

    fn settled(&mut self) -> &mut Self {
        self.input(RegistryInput::Membership(Membership::Settled))
    }

    fn probed(&mut self, state: SocketState) -> &mut Self {
        self.input(RegistryInput::SocketProbed { name: name("hecate-traderd"), state })
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now = Now { instant: self.now.instant + time, time: self.now.time + time };
        self.input(RegistryInput::Tick)
    }

    fn plugin(&self) -> Arc<Plugin> {
        Arc::clone(&self.state.view().plugins[&name("hecate-traderd")])
    }

    fn status(&self) -> Status {
        self.plugin().status
    }

    /// Returns the effects since the last call, as short text.
    fn effects(&mut self) -> Vec<String> {
        let short = |effect| match effect {
            E::ProbeSocket(name) => format!("probe {name}"),
            E::EnsureLayout(name) => format!("layout {name}"),
            E::CleanUp { name, .. } => format!("clean {name}"),
            E::CancelCleanUp(name) => format!("cancel {name}"),
            E::AwaitExit { name, .. } => format!("await {name}"),
            E::Forget(name) => format!("forget {name}"),
            E::Warn(warning) => format!("warn {warning:?}").split(' ').take(2).collect::<Vec<_>>().join(" "),
            other => panic!("unexpected {other:?}"),
        };
        self.effects.drain(..).map(short).collect()
    }

    fn probes(&mut self) -> usize {
        self.effects().iter().filter(|effect| effect.starts_with("probe ")).count()
    }

    /// Returns revision, kind and status of the events since the last call.
    fn events(&mut self) -> Vec<(u64, EventKind, Status)> {
        let short = |event: Event| (event.revision, event.kind, event.plugin.status);
        self.events.drain(..).map(short).collect()
    }
}

fn trader() -> Registration {
    sample::registration("hecate-traderd")
}

fn trader_on(node: &str) -> Registration {
    Registration { node: Field::Set(node.parse().unwrap()), ..trader() }
}

fn stored(status: Status, node: Option<&str>, node_given: bool) -> Plugin {
    Plugin {
        node: node.map(|node| node.parse().unwrap()),
        node_given,
        status,
        reason: Reason::new(ReasonCode::Unknown, "as it was"),
        incarnation: 3,
        ..sample::plugin("hecate-traderd")
    }
}

fn me() -> Process {
    Process::living(i32::try_from(std::process::id()).expect("a pid")).expect("this process is running")
}
