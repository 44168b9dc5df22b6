//! Checks the units: those of Quadlet with its generator, and the systemd unit in a user's manager.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::pod::{self, Node};
use crate::support::{Host, PATIENCE, Process, wait_for, wait_within};
use crate::{Deployed, GROUP, OWNER, TRADER, entry_point, ran, root, static_binary, tool};

// ---- Quadlet --------------------------------------------------------------------------------

/// Returns the units that Quadlet generates from a user's directory, each with its name.
fn generated(host: &Host, directory: &Path) -> Vec<(String, String)> {
    let mut quadlet = Command::new(tool("quadlet"));
    quadlet.args(["-user", "-dryrun"]).env_clear().env("HOME", host.home()).env("XDG_RUNTIME_DIR", host.home());
    quadlet.env("XDG_CONFIG_HOME", directory).env("PATH", "/usr/bin:/bin");
    let output = quadlet.output().expect("quadlet runs");
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = ran(output);
    // Quadlet reports unknown keys and continues.
    assert!(!messages.to_lowercase().contains("unsupported") && !messages.contains("error"), "{messages}");
    let units = text.split("---").skip(1).collect::<Vec<_>>();
    units.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

#[test]
fn quadlet_generates_valid_units_from_the_repository() {
    let deployed = Deployed::by(OWNER);
    let host = &deployed.host;
    // One link, as deploy/README.md describes.
    let config = host.home().join("config");
    fs::create_dir_all(config.join("containers")).unwrap();
    std::os::unix::fs::symlink(deployed.repository(), config.join("containers/systemd")).unwrap();
    let units = generated(host, &config);
    let names: Vec<&str> = units.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["hecate-daemon.service", "hecate-traderd.service", "hecate-traderw.service"]);
    for (name, unit) in &units {
        let run = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/bin/podman run "))
            .expect("the unit runs podman");
        let words: Vec<&str> = run.split(' ').collect();
        let after =
            |flag: &str| words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1]).collect::<Vec<_>>();
        for volume in after("-v") {
            let (outside, inside) = volume.split_once(':').unwrap();
            assert_eq!(
                inside.strip_suffix(":ro").unwrap_or(inside),
                outside,
                "{name}: the same path inside and outside"
            );
        }
        assert_eq!(after("--network"), ["host"], "{name}");
        assert_eq!(after("--userns"), ["keep-id"], "{name}");
        assert_eq!(after("--user"), ["%U:%G"], "{name}: not the user of the image");
        assert_eq!(after("--cap-drop"), ["all"], "{name}");
        assert!(words.contains(&"--read-only") && words.contains(&"--security-opt=no-new-privileges"), "{name}: {run}");
        assert!(after("--env").contains(&"HOME=%h") && after("--env").contains(&"HECATE_HOME=%h/.hecate"), "{run}");
        for file in after("--env-file") {
            assert!(Path::new(file).is_file(), "{name}: {file}");
        }
        // Also after an update that exits with 0.
        assert!(unit.contains("\nRestart=always\n"), "{unit}");
        // systemd-analyze requires that the program exists.
        fs::write(host.home().join(name), unit.replace("/usr/bin/podman", "/usr/bin/env")).unwrap();
    }
    let (_, daemon) = &units[0];
    assert!(daemon.contains(" -v %h/.hecate:%h/.hecate ") && daemon.contains("--sdnotify=container"), "{daemon}");
    // Podman would run a command line with `/bin/sh`, which the image lacks. Each check would fail
    // and kill the daemon.
    let check = daemon.split("--health-cmd ").nth(1).and_then(|rest| rest.split(" --").next()).expect("a check");
    let check: Vec<String> = serde_json::from_str(&serde_json::from_str::<String>(check).unwrap()).expect("a list");
    assert_eq!(check, [entry_point(), "healthcheck".to_owned()]);
    for (name, _) in &units {
        let mut verify = Command::new("systemd-analyze");
        verify.args(["--user", "--man=no", "verify"]).arg(host.home().join(name));
        verify.env("HOME", host.home()).env("XDG_RUNTIME_DIR", host.home());
        let output = verify.output().expect("install systemd");
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        let about_units = messages.lines().filter(|line| line.contains("hecate-") && !line.contains("X-Container"));
        assert!(output.status.success() && about_units.count() == 0, "{name}: {messages}");
    }
}

#[test]
fn the_samples_are_valid_units() {
    let host = Host::new();
    let config = host.home().join("config");
    fs::create_dir_all(config.join("containers")).unwrap();
    std::os::unix::fs::symlink(root().join("deploy/quadlet"), config.join("containers/systemd")).unwrap();
    assert_eq!(generated(&host, &config).len(), 3);
}

// ---- systemd --------------------------------------------------------------------------------

/// The systemd manager of a user, as `loginctl enable-linger` starts it. It has a `/run` as on a
/// machine that was booted with systemd, and a control group of the user. All that it starts ends
/// with it.
struct Manager {
    process: Process,
    host: Host,
    /// The network, in which all ports are free.
    _node: Node,
}

impl Manager {
    /// Starts it, with the unit installed as deploy/README.md describes.
    fn new() -> Self {
        let host = Host::new();
        let node = Node::new(&host.name, "");
        let home = host.home();
        for directory in [".local/bin", ".config/systemd/user/hecate-daemon.service.d"] {
            fs::create_dir_all(home.join(directory)).unwrap();
        }
        let binary = home.join(".local/bin/hecate-daemon");
        fs::copy(static_binary(), &binary).expect("`make static` builds it");
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let units = home.join(".config/systemd/user");
        let unit = "hecate-daemon.service";
        fs::copy(root().join("deploy/systemd").join(unit), units.join(unit)).unwrap();
        // There is no journal, so the log goes to a file.
        fs::write(units.join("hecate-daemon.service.d/log.conf"), "[Service]\nStandardError=append:%h/log\n").unwrap();
        ran(Command::new("chown").arg("-R").arg(format!("{OWNER}:{GROUP}")).arg(home).output().unwrap());
        let script = format!(
            "mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system; install -d -o {OWNER} -m 0700 /run/user/{OWNER}
            mount -t cgroup2 cgroup2 /sys/fs/cgroup; group=/sys/fs/cgroup/hecate-unit-$$; mkdir $group
            chown {OWNER} $group $group/cgroup.procs $group/cgroup.subtree_control
            sh -c \"echo 0 >$group/cgroup.procs; exec unshare --pid --fork --mount-proc sh -c '$MANAGER & wait'\" || true
            find $group -depth -type d -exec rmdir {{}} +"
        );
        let manager = format!("{} /lib/systemd/systemd --user --log-target=console", as_owner(home).join(" "));
        let mut start = Command::new("nsenter");
        start.arg(node.network()).args(["unshare", "--mount", "sh", "-euc", &script]).env("MANAGER", manager);
        start.stdin(Stdio::null()).stdout(Stdio::null());
        let process = Process::start(&mut start, "Install util-linux");
        let manager = Self { process, host, _node: node };
        wait_for("the manager answers", || manager.systemctl(&["show"]).status.success());
        manager
    }

    /// Returns the shell that waits for the manager: the first process of its pid namespace.
    fn first(&self) -> Option<u32> {
        let unshare = pod::first(self.process.id())?;
        pod::first(unshare)
    }

    /// Runs a command as the user.
    fn run(&self, command: &[&str]) -> Output {
        let mut run = Command::new("nsenter");
        let first = wait_within(PATIENCE, "the manager's pid namespace exists", || self.first());
        run.arg(format!("--target={first}")).args(["--mount", "--pid", "--net"]);
        run.args(as_owner(self.host.home())).args(command).stdin(Stdio::null()).output().expect("install util-linux")
    }

    fn systemctl(&self, arguments: &[&str]) -> Output {
        self.run(&[&["systemctl", "--user"], arguments].concat())
    }

    fn hecate(&self, arguments: &[&str]) -> Output {
        let binary = self.host.home().join(".local/bin/hecate-daemon");
        self.run(&[&[binary.to_str().unwrap()], arguments].concat())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.host.home().join("log")).unwrap_or_default()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // The script that started the manager then removes the control group.
        if let Some(first) = self.first() {
            pod::kill(first);
            let _ = self.process.pipes().wait();
        }
        if std::thread::panicking() {
            eprintln!("---- log of the unit ----\n{}----", self.log());
        }
    }
}

/// Returns the words before a command that run it as the user.
fn as_owner(home: &Path) -> Vec<String> {
    let user = format!("setpriv --reuid={OWNER} --regid={GROUP} --clear-groups env -i PATH=/usr/bin:/bin");
    let mut words: Vec<String> = user.split(' ').map(str::to_owned).collect();
    words.extend([format!("HOME={}", home.display()), format!("XDG_RUNTIME_DIR=/run/user/{OWNER}")]);
    words
}

#[test]
fn the_user_unit_starts_restarts_and_stops_the_daemon() {
    let manager = Manager::new();
    let unit = "hecate-daemon.service";
    let verified = manager.run(&["systemd-analyze", "--user", "--man=no", "verify", unit]);
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");
    // `start` returns when the daemon is ready.
    ran(manager.systemctl(&["start", unit]));
    ran(manager.hecate(&["register", TRADER]));
    let plugins = |manager: &Manager| -> Value {
        let output = manager.hecate(&["plugins", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    assert_eq!(plugins(&manager)[0]["name"], TRADER);
    assert!(manager.host.namespace(TRADER).join("sockets").is_dir());
    let cookie = fs::metadata(manager.host.home().join(".erlang.cookie")).expect("the daemon creates a cookie");
    assert_eq!(cookie.permissions().mode() & 0o777, 0o400);

    // systemd restarts a killed daemon.
    let pid = || ran(manager.systemctl(&["show", "--property=MainPID", "--value", unit]));
    let before = pid();
    ran(manager.systemctl(&["kill", "--signal=KILL", unit]));
    wait_for("a new daemon serves", || pid() != before && plugins(&manager)[0]["name"] == TRADER);

    // EPMD keeps running for other nodes.
    ran(manager.systemctl(&["stop", unit]));
    assert!(!manager.host.socket().exists());
    ran(manager.run(&["epmd", "-names"]));

    // systemd does not restart a daemon with a wrong setting.
    let settings = manager.host.home().join(".config/hecate");
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("daemon.env"), "HECATE_DIR_MODE=open\n").unwrap();
    assert!(!manager.systemctl(&["start", unit]).status.success());
    assert_eq!(ran(manager.systemctl(&["show", "--property=ActiveState", "--value", unit])), "failed\n");
    assert!(manager.log().contains("HECATE_DIR_MODE"), "{}", manager.log());
}

#[test]
fn the_user_unit_has_the_lowest_exposure_that_a_user_unit_allows() {
    // The other settings need a user namespace, in which all other users are `nobody`, and the
    // daemon must tell users apart.
    let unit = root().join("deploy/systemd/hecate-daemon.service");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--no-pager", "--offline=true", "--threshold=66"]).arg(unit);
    let output = security.output().expect("install systemd");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{report}");
    assert!(report.contains("Overall exposure level for hecate-daemon.service: "), "{report}");
}
