//! The help texts: the groups of commands, the examples, and which settings each command shows.

use clap::Command;
use clap::builder::StyledStr;

use crate::config::settings::{SETTINGS, Setting};

/// The commands in the order of the help, by group.
pub(super) const GROUPS: [(&str, &[&str]); 5] = [
    ("Daemon", &["run", "status", "healthcheck"]),
    ("Plugins", &["plugins", "plugin", "register", "deregister", "purge", "paths", "events"]),
    ("Cluster", &["cluster", "diagnose", "trace"]),
    ("Deployment", &["gitops"]),
    ("Tools", &["doctor", "openapi", "completions"]),
];

/// The description of `help`, which clap adds to the commands.
const HELP: &str = "Print this message or the help of the given subcommand(s)";

pub(super) const ABOUT: &str = "\
The primary Hecate daemon of a host. It registers plugin daemons over a Unix socket, and is a node
of the BEAM cluster. Without a command it runs the daemon, and accepts the settings of `run`.";

pub(super) const CHECK_CONFIG: &str = "\
Print each setting with its value and source, and exit with 0, or with 2 if one is invalid";

pub(super) const DAEMON: &str = "\
Examples:
  hecate-daemon                                     run in the foreground
  hecate-daemon --config /etc/hecate/sys.config     run with the settings of a file
  HECATE_CLUSTER_PEERS=beam00,beam01 hecate-daemon  run, and connect to the daemons of other hosts
  hecate-daemon --check-config                      show the settings and where they come from
  hecate-daemon doctor                              check this host for problems
  hecate-daemon register hecate-traderd --version 0.1.0
  hecate-daemon plugins

Exit codes: 0 success, 1 refused, 2 usage error, 3 daemon unreachable, 4 daemon busy (retry).";

pub(super) const RUN: &str = "\
Each setting has a flag, an environment variable and a key in the file of --config. A flag
overrides the variable, and the variable overrides the file. Flags without a command, as in
`hecate-daemon --hidden`, are the same as after `run`. Set the cookie with HECATE_ERLANG_COOKIE or
in the file, because other users can read the flags of a process.

Examples:
  hecate-daemon run
  hecate-daemon run --config /etc/hecate/sys.config
  hecate-daemon run --cluster-peers beam00,beam01 --log info,beam=debug
  hecate-daemon run --check-config";

pub(super) const STATUS: &str = "\
Exits with 0 if the daemon answers, even if it is not healthy or not ready. Scripts read `status`
and `ready` from the JSON.

Examples:
  hecate-daemon status
  hecate-daemon status --json | jq -r .status
  [ \"$(hecate-daemon status --json | jq .ready)\" = true ] && echo ready";

pub(super) const HEALTHCHECK: &str = "\
Exits with 0 if the daemon answers, even if it is not healthy or not ready, and with 1 otherwise. To
wait for a ready daemon, read `ready` from `hecate-daemon status --json`.

Examples:
  hecate-daemon healthcheck
  podman run --health-cmd '[\"/hecate-daemon\",\"healthcheck\"]' localhost/hecate-daemon:0.1.0";

pub(super) const PLUGINS: &str = "\
Examples:
  hecate-daemon plugins
  hecate-daemon plugins --json | jq -r '.[] | select(.status == \"stopped\") | .name'
  hecate-daemon plugins --cluster
  hecate-daemon plugins --cluster --json | jq -r '.plugins[] | select(.lost_since) | .name'";

pub(super) const PLUGIN: &str = "\
Examples:
  hecate-daemon plugin hecate-traderd
  hecate-daemon plugin hecate-traderd --json | jq -r .reason";

pub(super) const REGISTER: &str = "\
A field that you leave out keeps its registered value.

Examples:
  hecate-daemon register hecate-traderd --version 0.1.0
  hecate-daemon register hecate-traderd --node hecate_traderd@beam00";

pub(super) const DEREGISTER: &str = "\
Examples:
  hecate-daemon deregister hecate-traderd
  hecate-daemon deregister hecate-traderd && hecate-daemon purge hecate-traderd --yes";

pub(super) const PURGE: &str = "\
The daemon refuses if the plugin is registered or still runs. Deleted data cannot be restored.

Examples:
  hecate-daemon purge hecate-traderd
  hecate-daemon purge hecate-traderd --yes";

pub(super) const PATHS: &str = "\
Examples:
  hecate-daemon paths hecate-traderd
  hecate-daemon paths hecate-traderd --json | jq -r .paths.sqlite";

pub(super) const EVENTS: &str = "\
The first event is a snapshot of all plugins. If the connection is lost, the command reconnects and
continues after the last event that it printed. Press Ctrl-C to stop.

Examples:
  hecate-daemon events
  hecate-daemon events --json | jq -c 'select(.event == \"plugin_status_changed_v1\") | .data'";

pub(super) const CLUSTER: &str = "\
Nodes of other users of this host are not shown: `diagnose` says why. A node that was introduced by
itself has dialled the daemon. `diagnose` on other hosts does so as hecate_diagnosis@HOST or
d<DIGITS>@localhost; these entries disappear after 1 minute.

Examples:
  hecate-daemon cluster
  hecate-daemon cluster --json | \\
    jq -r '.peers[] | select(.state != \"connected\" and .introduced_by != \"itself\") | .name'";

pub(super) const DIAGNOSE: &str = "\
Exits with 0 if no stage fails, and with 1 otherwise.

Examples:
  hecate-daemon diagnose hecate_traderd@beam00
  hecate-daemon diagnose hecate@beam01 --json | jq -r .code
  hecate-daemon diagnose hecate_traderd@beam00 --independent";

pub(super) const INDEPENDENT: &str = "\
Connect to the node from this process, with another implementation of the protocol, and
show the node's answers. This uses the cookie and the EPMD port of the environment or the
file, and not the daemon";

pub(super) const TRACE: &str = "\
The node need not be connected: the command also shows handshakes with it. Cookies, challenges,
digests and the contents of messages are never shown. Press Ctrl-C to stop.

Examples:
  hecate-daemon trace hecate_traderd@beam00
  hecate-daemon trace hecate@beam01 --json | jq -r 'select(.data.layer == \"handshake\") | .data.text'";

pub(super) const DOCTOR: &str = "\
The checks work whether a daemon runs or not, and change nothing. They use the settings that a
daemon would start with in this shell, which may differ from those of the running daemon: `doctor`
accepts each setting of `hecate-daemon run` as a flag, an environment variable, or a key in the
file. Exits with 0 if no check fails, and with 1 otherwise.

Examples:
  hecate-daemon doctor
  hecate-daemon doctor --json | jq '.findings[] | select(.level != \"ok\")'";

pub(super) const OPENAPI: &str = "\
The daemon serves the same document at /openapi.json. This command needs no daemon.

Examples:
  hecate-daemon openapi > openapi.json
  hecate-daemon openapi | jq -r '.paths | keys[]'";

pub(super) const COMPLETIONS: &str = "\
Examples:
  hecate-daemon completions bash > ~/.local/share/bash-completion/completions/hecate-daemon
  hecate-daemon completions zsh > ~/.zfunc/_hecate-daemon
  hecate-daemon completions fish > ~/.config/fish/completions/hecate-daemon.fish";

pub(super) const GITOPS: &str = "\
The repository is HOME/gitops. Flux (on k3s) or Quadlet (on systemd) deploys what is in it. Each
command makes one commit and keeps your own commits.

Examples:
  hecate-daemon gitops init
  hecate-daemon gitops add hecate-traderd --image registry.example/hecate-traderd:0.1.0
  hecate-daemon gitops status";

pub(super) const GITOPS_INIT: &str = "\
Examples:
  hecate-daemon gitops init
  hecate-daemon gitops init --image localhost/hecate-daemon:0.2.0   upgrade the daemon";

pub(super) const GITOPS_ADD: &str = "\
If the plugin is already deployed, this changes its images to the given ones.

Examples:
  hecate-daemon gitops add hecate-traderd --image registry.example/hecate-traderd:0.1.0
  hecate-daemon gitops add hecate-traderd --image registry.example/hecate-traderd:0.1.0 \\
    --frontend-image registry.example/hecate-traderw:0.1.0";

pub(super) const GITOPS_REMOVE: &str = "\
To delete the data too, stop the plugin, then deregister and purge it. `deregister` fails if the
plugin never registered; `purge` works in that case too.

Examples:
  hecate-daemon gitops remove hecate-traderd
  hecate-daemon deregister hecate-traderd; hecate-daemon purge hecate-traderd";

pub(super) const GITOPS_STATUS: &str = "\
Exits with 3 if no daemon answers. It then shows only what is in the repository.

Examples:
  hecate-daemon gitops status
  hecate-daemon gitops status --json | jq -r '.plugins[] | select(.deployed) | .name'";

/// Lists the commands in groups, and hides settings that a command accepts but does not explain.
pub(super) fn arranged(command: Command) -> Command {
    let template = template(&command);
    let command = hide_settings(command, |_| false).help_template(template);
    let command = command.mut_subcommand("doctor", |doctor| hide_settings(doctor, |setting| setting.for_clients));
    command.mut_subcommand("gitops", |gitops| {
        // Only `status` asks the daemon.
        ["init", "add", "remove"].into_iter().fold(gitops, |gitops, name| {
            gitops.mut_subcommand(name, |command| {
                hide_settings(command, |setting| setting.for_clients && setting.flag != Some("socket-path"))
            })
        })
    })
}

fn hide_settings(command: Command, is_shown: fn(&Setting) -> bool) -> Command {
    let is_hidden = |name: &str| SETTINGS.iter().any(|setting| setting.flag == Some(name) && !is_shown(setting));
    command.mut_args(|argument| {
        let hide = is_hidden(argument.get_id().as_str());
        argument.hide(hide)
    })
}

fn template(command: &Command) -> StyledStr {
    let styles = command.get_styles();
    let (header, literal) = (*styles.get_header(), *styles.get_literal());
    let width = command.get_subcommands().map(|command| command.get_name().len()).max().unwrap_or(0);
    let mut text = "{before-help}{about-with-newline}\n{usage-heading} {usage}\n\n".to_owned();
    for (group, names) in GROUPS {
        text.push_str(&format!("{header}{group}:{header:#}\n"));
        for command in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let (name, about) = (command.get_name(), command.get_about().unwrap_or_default());
            text.push_str(&format!("  {literal}{name:<width$}{literal:#}  {about}\n"));
        }
        if group == "Tools" {
            text.push_str(&format!("  {literal}{:<width$}{literal:#}  {HELP}\n", "help"));
        }
        text.push('\n');
    }
    text.push_str(&format!("{header}Options:{header:#}\n{{options}}\n\n"));
    text.push_str(
        "`hecate-daemon COMMAND --help` explains a command, `hecate-daemon run --help` the settings.{after-help}",
    );
    StyledStr::from(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::command;
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let command = command();
        let all: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), all);
        assert_eq!(listed.len(), all.len());
    }
}
