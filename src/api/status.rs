//! The state of the daemon that it publishes for `/health` and `/readyz`. The states of single
//! plugins are in the registry.

use beam::name::NodeName;

use crate::wire::HealthStatus;

/// The state of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaemonStatus {
    /// The phase, which decides what `/readyz` returns.
    pub phase: Phase,
    /// The full name of our node, once it has one.
    pub node_name: Option<NodeName>,
    /// The users who own this host's EPMD; empty if unknown.
    pub epmd_owners: Vec<EpmdOwner>,
    /// The current problems.
    pub problems: Vec<Problem>,
}

/// A user who owns this host's EPMD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpmdOwner {
    /// The user.
    pub uid: u32,
    /// The user's name, if the system's accounts have it.
    pub user: Option<String>,
    /// The process that serves EPMD, if the kernel shows it to the daemon.
    pub pid: Option<i32>,
    /// The name of its program, escaped.
    pub program: Option<String>,
}

/// The phase of the daemon, as in `run/daemon.state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// Starting.
    #[default]
    Starting,
    /// Serving.
    Running,
    /// Stopping.
    Stopping,
}

/// A problem of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The stable code for programs, such as `epmd_unavailable`.
    pub code: &'static str,
    /// What is wrong and what to do, for people.
    pub detail: String,
    /// How severe the problem is.
    pub severity: Severity,
}

/// How severe a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Everything that was configured works, for example on a host without EPMD.
    Notice,
    /// The daemon serves requests, but data was lost. For example, it started with an empty
    /// registry because the database was damaged.
    Unhealthy,
    /// The daemon serves requests, but does not run as configured. For example, its configured node
    /// name is in use.
    NotReady,
}

impl DaemonStatus {
    /// Returns the first problem that makes the daemon not ready; none if it is ready.
    #[must_use]
    pub fn blocker(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.severity == Severity::NotReady)
    }

    /// Returns the status in `/health`. `judged` is whether the registry knows which plugins are
    /// running.
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
    fn phases_and_problems_determine_the_status() {
        let problem = |severity| Problem { code: "x", detail: String::new(), severity };
        let health = |phase, judged, problems: &[Severity]| {
            let problems = problems.iter().copied().map(problem).collect();
            let status = DaemonStatus { phase, problems, ..DaemonStatus::default() };
            (status.health(judged), status.blocker().is_some())
        };
        assert_eq!(health(Phase::Starting, true, &[]), (HealthStatus::Starting, false));
        assert_eq!(health(Phase::Running, false, &[]), (HealthStatus::Starting, false), "no plugin is judged yet");
        assert_eq!(health(Phase::Running, true, &[]), (HealthStatus::Healthy, false));
        assert_eq!(health(Phase::Running, true, &[Severity::Notice]), (HealthStatus::Healthy, false));
        assert_eq!(
            health(Phase::Running, true, &[Severity::Notice, Severity::Unhealthy]),
            (HealthStatus::Unhealthy, false)
        );
        assert_eq!(health(Phase::Running, true, &[Severity::NotReady]), (HealthStatus::Unhealthy, true));
        assert_eq!(health(Phase::Stopping, true, &[]), (HealthStatus::Unhealthy, false));
    }
}
