//! The units: Quadlet's through its generator, and systemd's own, which is run by a user's manager as it is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::pod::{self, Node};
use crate::support::{Host, PATIENCE, Process, wait_for, wait_within};
use crate::{Deployed, GROUP, OWNER, TRADER, entry_point, ran, root, static_binary, tool};

// ---- Quadlet --------------------------------------------------------------------------------

/// The units that Quadlet makes of a user's directory, by name.
fn generated(host: &Host, directory: &Path) -> Vec<(String, String)> {
    let mut quadlet = Command::new(tool("quadlet"));
    quadlet.args(["-user", "-dryrun"]).env_clear().env("HOME", host.home()).env("XDG_RUNTIME_DIR", host.home());
    quadlet.env("XDG_CONFIG_HOME", directory).env("PATH", "/usr/bin:/bin");
    let output = quadlet.output().expect("quadlet runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = ran(output);
    // It says which keys it doesn't know, and goes on.
    assert!(!said.to_lowercase().contains("unsupported") && !said.contains("error"), "{said}");
    let units = text.split("---").skip(1).collect::<Vec<_>>();
    units.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

#[test]
fn quadlet_makes_units_of_the_repository_that_systemd_takes() {
    let deployed = Deployed::by(OWNER);
    let host = &deployed.host;
    // As the manual says: one link.
    let config = host.home().join("config");
    fs::create_dir_all(config.join("containers")).unwrap();
    std::os::unix::fs::symlink(deployed.repository(), config.join("containers/systemd")).unwrap();
    let units = generated(host, &config);
    let names: Vec<&str> = units.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["hecate-daemon.service", "hecate-traderd.service", "hecate-traderw.service"]);
    for (name, unit) in &units {
        let run =
            unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/podman run ")).expect("it runs podman");
        let words: Vec<&str> = run.split(' ').collect();
        let behind =
            |flag: &str| words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1]).collect::<Vec<_>>();
        for volume in behind("-v") {
            let (outside, inside) = volume.split_once(':').unwrap();
            assert_eq!(inside.strip_suffix(":ro").unwrap_or(inside), outside, "{name}: the same path inside and out");
        }
        assert_eq!(behind("--network"), ["host"], "{name}");
        assert_eq!(behind("--userns"), ["keep-id"], "{name}");
        assert_eq!(behind("--user"), ["%U:%G"], "{name}: not who the image says");
        assert_eq!(behind("--cap-drop"), ["all"], "{name}");
        assert!(words.contains(&"--read-only") && words.contains(&"--security-opt=no-new-privileges"), "{name}: {run}");
        assert!(behind("--env").contains(&"HOME=%h") && behind("--env").contains(&"HECATE_HOME=%h/.hecate"), "{run}");
        for file in behind("--env-file") {
            assert!(Path::new(file).is_file(), "{name}: {file}");
        }
        // An update that ends with 0 does not stay ended.
        assert!(unit.contains("\nRestart=always\n"), "{unit}");
        // The checker wants the program to be there.
        fs::write(host.home().join(name), unit.replace("/usr/bin/podman", "/usr/bin/env")).unwrap();
    }
    let (_, daemon) = &units[0];
    assert!(daemon.contains(" -v %h/.hecate:%h/.hecate ") && daemon.contains("--sdnotify=container"), "{daemon}");
    // Podman runs what is no list by `/bin/sh`, which isn't in the image: each check would fail, and end the daemon.
    let check = daemon.split("--health-cmd ").nth(1).and_then(|rest| rest.split(" --").next()).expect("a check");
    let check: Vec<String> = serde_json::from_str(&serde_json::from_str::<String>(check).unwrap()).expect("a list");
    assert_eq!(check, [entry_point(), "healthcheck".to_owned()]);
    for (name, _) in &units {
        let mut verify = Command::new("systemd-analyze");
        verify.args(["--user", "--man=no", "verify"]).arg(host.home().join(name));
        verify.env("HOME", host.home()).env("XDG_RUNTIME_DIR", host.home());
        let output = verify.output().expect("install systemd");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours = said.lines().filter(|line| line.contains("hecate-") && !line.contains("X-Container"));
        assert!(output.status.success() && ours.count() == 0, "{name}: {said}");
    }
}

#[test]
fn the_samples_are_units_as_they_stand() {
    let host = Host::new();
    let config = host.home().join("config");
    fs::create_dir_all(config.join("containers")).unwrap();
    std::os::unix::fs::symlink(root().join("deploy/quadlet"), config.join("containers/systemd")).unwrap();
    assert_eq!(generated(&host, &config).len(), 3);
}

// ---- systemd --------------------------------------------------------------------------------

/// A user's own systemd, as `loginctl enable-linger` starts it. It finds `/run` as on a machine that was booted with systemd, and a
/// control group that is the user's; all that it starts ends with it.
struct Manager {
    process: Process,
    host: Host,
    /// Its network, in which the ports are free.
    _node: Node,
}

impl Manager {
    /// With the unit installed as the manual says.
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
        // There is no journal.
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

    /// The shell that waits for the manager: the first process of its pid namespace.
    fn first(&self) -> Option<u32> {
        let unshare = pod::first(self.process.id())?;
        pod::first(unshare)
    }

    /// Runs a command as the user.
    fn run(&self, command: &[&str]) -> Output {
        let mut run = Command::new("nsenter");
        let first = wait_within(PATIENCE, "the manager's place is there", || self.first());
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
        // What started it then takes the control group away.
        if let Some(first) = self.first() {
            pod::kill(first);
            let _ = self.process.pipes().wait();
        }
        if std::thread::panicking() {
            eprintln!("---- log of the unit ----\n{}----", self.log());
        }
    }
}

/// The words in front of a command that make it the user's.
fn as_owner(home: &Path) -> Vec<String> {
    let user = format!("setpriv --reuid={OWNER} --regid={GROUP} --clear-groups env -i PATH=/usr/bin:/bin");
    let mut words: Vec<String> = user.split(' ').map(str::to_owned).collect();
    words.extend([format!("HOME={}", home.display()), format!("XDG_RUNTIME_DIR=/run/user/{OWNER}")]);
    words
}

#[test]
fn the_user_unit_serves_behind_all_that_it_restricts() {
    let manager = Manager::new();
    let unit = "hecate-daemon.service";
    let verified = manager.run(&["systemd-analyze", "--user", "--man=no", "verify", unit]);
    assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");
    // It is told when the daemon is ready, and not before.
    ran(manager.systemctl(&["start", unit]));
    ran(manager.hecate(&["register", TRADER]));
    let plugins = |manager: &Manager| -> Value {
        let output = manager.hecate(&["plugins", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    assert_eq!(plugins(&manager)[0]["name"], TRADER);
    assert!(manager.host.namespace(TRADER).join("sockets").is_dir());
    let cookie = fs::metadata(manager.host.home().join(".erlang.cookie")).expect("it made one");
    assert_eq!(cookie.permissions().mode() & 0o777, 0o400);

    // Killed, it comes again.
    let pid = || ran(manager.systemctl(&["show", "--property=MainPID", "--value", unit]));
    let before = pid();
    ran(manager.systemctl(&["kill", "--signal=KILL", unit]));
    wait_for("another is up", || pid() != before && plugins(&manager)[0]["name"] == TRADER);

    // Stopped, it leaves EPMD to others.
    ran(manager.systemctl(&["stop", unit]));
    assert!(!manager.host.socket().exists());
    ran(manager.run(&["epmd", "-names"]));

    // A wrong setting is not tried again and again.
    let settings = manager.host.home().join(".config/hecate");
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("daemon.env"), "HECATE_DIR_MODE=open\n").unwrap();
    assert!(!manager.systemctl(&["start", unit]).status.success());
    assert_eq!(ran(manager.systemctl(&["show", "--property=ActiveState", "--value", unit])), "failed\n");
    assert!(manager.log().contains("HECATE_DIR_MODE"), "{}", manager.log());
}

#[test]
fn the_user_unit_is_exposed_no_more_than_a_user_unit_must_be() {
    // What is left needs a user namespace, in which other users would all be nobody: the daemon tells them apart.
    let unit = root().join("deploy/systemd/hecate-daemon.service");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--no-pager", "--offline=true", "--threshold=66"]).arg(unit);
    let output = security.output().expect("install systemd");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Overall exposure level for hecate-daemon.service: "), "{said}");
}
