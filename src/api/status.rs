//! How the daemon as a whole is doing, as `/health`, `/livez` and `/readyz` tell it: plain data that the daemon
//! publishes, and the two questions that the API asks of it. It knows nothing of single plugins.

use beam::name::NodeName;

use crate::wire::HealthStatus;

/// What the daemon publishes about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaemonStatus {
    /// Where in its life it is.
    pub phase: Phase,
    /// Our node's full name, once it has one.
    pub node_name: Option<NodeName>,
    /// The users who own this host's EPMD; empty if unknown.
    pub epmd_owners: Vec<EpmdOwner>,
    /// What is wrong at this moment.
    pub problems: Vec<Problem>,
}

/// A user who owns this host's EPMD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpmdOwner {
    /// The user.
    pub uid: u32,
    /// The user's name, if the system's accounts have it.
    pub user: Option<String>,
    /// The process that serves EPMD, if the kernel shows it to us.
    pub pid: Option<i32>,
    /// The name of its program, escaped.
    pub program: Option<String>,
}

/// The life of the daemon. The same words stand in `run/daemon.state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not everything is up.
    #[default]
    Starting,
    /// Serving.
    Running,
    /// On the way out.
    Stopping,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable, for clients to branch on: `epmd_unavailable`, `node_name_taken`, ...
    pub code: &'static str,
    /// A sentence that says whose fault it is and what to do.
    pub detail: String,
    /// How bad it is.
    pub severity: Severity,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; all that was asked for works, such as on a host without EPMD.
    Notice,
    /// Served, but something is lost, such as a registry that was corrupt and had to be begun anew.
    Unhealthy,
    /// Served, but not as asked, such as under an explicit name that is taken.
    NotReady,
}

impl DaemonStatus {
    /// The worst problem that makes us unready, if we are running.
    #[must_use]
    pub fn blocker(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.severity == Severity::NotReady)
    }

    /// What `/health` says of it; `judged` says whether the registry knows which plugins live.
    #[must_use]
    pub fn health(&self, judged: bool) -> HealthStatus {
        let well = self.problems.iter().all(|problem| problem.severity == Severity::Notice);
        match self.phase {
            Phase::Starting => HealthStatus::Starting,
            Phase::Running if !judged => HealthStatus::Starting,
            Phase::Running if well => HealthStatus::Healthy,
            Phase::Running | Phase::Stopping => HealthStatus::Unhealthy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_for_each_state() {
        let problem = |severity| Problem { code: "x", detail: String::new(), severity };
        let word = |phase, judged, problems: &[Severity]| {
            let problems = problems.iter().copied().map(problem).collect();
            let status = DaemonStatus { phase, problems, ..DaemonStatus::default() };
            (status.health(judged), status.blocker().is_some())
        };
        assert_eq!(word(Phase::Starting, true, &[]), (HealthStatus::Starting, false));
        assert_eq!(word(Phase::Running, false, &[]), (HealthStatus::Starting, false), "no plugin is judged yet");
        assert_eq!(word(Phase::Running, true, &[]), (HealthStatus::Healthy, false));
        assert_eq!(word(Phase::Running, true, &[Severity::Notice]), (HealthStatus::Healthy, false));
        assert_eq!(
            word(Phase::Running, true, &[Severity::Notice, Severity::Unhealthy]),
            (HealthStatus::Unhealthy, false)
        );
        assert_eq!(word(Phase::Running, true, &[Severity::NotReady]), (HealthStatus::Unhealthy, true));
        assert_eq!(word(Phase::Stopping, true, &[]), (HealthStatus::Unhealthy, false));
    }
}
