//! `gitops` with the built program and real git: each command makes one commit, and overwrites no
//! file or change of the user.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::Host;
use support::plugin::TRADER;

const IMAGE: &str = "registry.example/hecate-traderd:0.1.0";
const FRONTEND: &str = "registry.example/hecate-traderw:0.1.0";

/// One user's home.
struct Home {
    host: Host,
    /// Further environment variables.
    environment: Vec<(&'static str, String)>,
}

impl Home {
    fn new() -> Self {
        Self { host: Host::new(), environment: Vec::new() }
    }

    fn repository(&self) -> PathBuf {
        self.host.namespace("gitops")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hecate-daemon"));
        command.arg("gitops").args(arguments).env_clear().env("HOME", self.host.home());
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(self.environment.iter().map(|(key, value)| (key, value))).current_dir(self.host.home());
        command.output().expect("ran")
    }

    /// Runs a command that succeeds. Returns its JSON.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(0), true), "{output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(self.git(&["status", "--porcelain"]), "", "nothing is left to be committed");
        answer
    }

    /// Runs a command that is refused. Returns the reason.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// As root, the first `add` of a plugin needs `--uid`.
    fn add(&self, more: &[&str]) -> Value {
        self.done(&[&["add", TRADER, "--image", IMAGE, "--uid", "1001"], more].concat())
    }

    fn git_at(path: &Path, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=Somebody", "-c", "user.email=somebody@localhost"]);
        let output = git.arg("-C").arg(path).args(arguments).output().expect("install git");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn git(&self, arguments: &[&str]) -> String {
        Self::git_at(&self.repository(), arguments)
    }

    fn commits(&self) -> Vec<String> {
        self.git(&["log", "--reverse", "--format=%an: %s"]).lines().map(str::to_owned).collect()
    }

    fn file(&self, path: &str) -> String {
        fs::read_to_string(self.repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn listed(&self) -> Vec<String> {
        let text = self.file("kustomization.yaml");
        let behind = text.split("resources:\n").nth(1).expect("a list");
        behind.lines().map_while(|line| line.strip_prefix("  - ")).map(str::to_owned).collect()
    }
}

#[test]
fn each_change_is_one_commit_and_a_repetition_is_none() {
    let home = Home::new();
    let made = home.done(&["init"]);
    assert_eq!(made["message"], "Deploy hecate-daemon");
    assert_eq!(made["repository"], home.repository().to_str().unwrap());
    assert_eq!(home.done(&["init"])["commit"], Value::Null);
    assert!(home.host.namespace("hecate-daemon").join("sockets").is_dir(), "a plugin's pod can mount it");

    home.add(&["--frontend-image", FRONTEND]);
    assert_eq!(home.listed(), ["hecate-daemon", TRADER, "hecate-traderw"]);
    assert!(home.file("hecate-traderd/daemonset.yaml").contains(&format!("image: \"{IMAGE}\"")));
    assert!(home.file("hecate-traderw/hecate-traderw.container").contains(&format!("Image={FRONTEND}")));
    for directory in ["sqlite", "reckon-db", "sockets", "run", "connectors"] {
        assert!(home.host.namespace(TRADER).join(directory).is_dir(), "{directory}");
    }
    assert_eq!(home.add(&["--frontend-image", FRONTEND])["commit"], Value::Null);

    let newer = home.done(&["add", TRADER, "--image", "registry.example/hecate-traderd:0.2.0", "--uid", "1001"]);
    assert_eq!(newer["message"], "Set the image of hecate-traderd to registry.example/hecate-traderd:0.2.0");
    home.done(&["init", "--image", "localhost/hecate-daemon:9.9.9"]);
    assert!(home.file("hecate-daemon/daemonset.yaml").contains("image: \"localhost/hecate-daemon:9.9.9\""));
    assert!(home.file("hecate-daemon/hecate-daemon.container").contains("Image=localhost/hecate-daemon:9.9.9"));

    let kept = home.host.namespace(TRADER).join("sqlite/kept");
    fs::write(&kept, "kept").unwrap();
    let removed = home.done(&["remove", TRADER]);
    assert!(removed["notes"].to_string().contains("its data stays in"), "{removed}");
    assert_eq!(home.listed(), ["hecate-daemon"]);
    assert!(!home.repository().join(TRADER).exists() && !home.repository().join("hecate-traderw").exists());
    assert_eq!(fs::read_to_string(kept).unwrap(), "kept");
    assert_eq!(home.done(&["remove", TRADER])["commit"], Value::Null);
    let said = [
        "Deploy hecate-daemon",
        "Deploy hecate-traderd",
        "Set the image of hecate-traderd to registry.example/hecate-traderd:0.2.0",
        "Run the image localhost/hecate-daemon:9.9.9 as hecate-daemon",
        "Remove hecate-traderd",
    ];
    assert_eq!(home.commits(), said.map(|message| format!("hecate-daemon: {message}")));
    assert_eq!(home.git(&["branch", "--show-current"]).trim(), "main");
}

#[test]
fn the_users_git_configuration_has_no_effect() {
    let mut home = Home::new();
    let path = |name: &str| home.host.home().join(name).to_str().unwrap().to_owned();
    let (elsewhere, config, ran) = (path("elsewhere"), path(".gitconfig"), path("ran"));
    fs::create_dir(&elsewhere).unwrap();
    Home::git_at(Path::new(&elsewhere), &["init", "--quiet"]);
    fs::write(path("ignore"), "*.env\n*.yaml\n").unwrap();
    fs::create_dir(path("hooks")).unwrap();
    for hook in ["pre-commit", "commit-msg", "post-commit", "post-index-change"] {
        let file = path("hooks") + "/" + hook;
        fs::write(&file, format!("#!/bin/sh\ntouch {ran}\nexit 1\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let told = format!(
        "[core]\n hooksPath = {hooks}\n excludesFile = {ignore}\n fsmonitor = {hooks}/pre-commit\n[commit]\n gpgSign = true\n\
         [init]\n defaultBranch = other\n templateDir = {hooks}\n[user]\n useConfigOnly = true\n",
        hooks = path("hooks"),
        ignore = path("ignore"),
    );
    fs::write(&config, &told).unwrap();
    home.environment = vec![
        ("GIT_DIR", format!("{elsewhere}/.git")),
        ("GIT_WORK_TREE", elsewhere.clone()),
        ("GIT_INDEX_FILE", format!("{elsewhere}/index")),
        ("GIT_CONFIG_GLOBAL", config),
        ("GIT_CONFIG_COUNT", "1".to_owned()),
        ("GIT_CONFIG_KEY_0", "core.bare".to_owned()),
        ("GIT_CONFIG_VALUE_0", "true".to_owned()),
    ];
    home.done(&["init"]);
    // Its own configuration and hooks aren't run either.
    let hooks = home.repository().join(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    fs::copy(path_of(&home, "hooks/pre-commit"), hooks.join("pre-commit")).unwrap();
    home.add(&[]);
    assert_eq!(home.commits().len(), 2);
    assert_eq!(home.git(&["branch", "--show-current"]).trim(), "main");
    assert!(home.git(&["ls-files"]).contains("hecate-daemon/hecate-daemon.env"));
    assert!(!Path::new(&ran).exists(), "no hook ran");
    assert!(!Path::new(&elsewhere).join("index").exists());
}

fn path_of(home: &Home, name: &str) -> PathBuf {
    home.host.home().join(name)
}

#[test]
fn foreign_and_changed_repositories_are_refused() {
    // Files that are in no repository.
    let home = Home::new();
    fs::create_dir_all(home.repository()).unwrap();
    fs::write(home.repository().join("kustomization.yaml"), "mine").unwrap();
    assert!(home.refused(&["init"]).contains("files outside of any repository"));
    assert_eq!(home.file("kustomization.yaml"), "mine");

    // A repository with something else in it.
    Home::git_at(&home.repository(), &["init", "--quiet", "--initial-branch", "main"]);
    assert!(home.refused(&["init"]).contains("uncommitted files in a new repository"));
    home.git(&["add", "."]);
    home.git(&["commit", "--quiet", "--message", "mine"]);
    assert!(home.refused(&["init"]).contains("another repository"));
    assert!(home.refused(&["add", TRADER, "--image", IMAGE, "--uid", "1001"]).contains("another repository"));
    assert_eq!(home.file("kustomization.yaml"), "mine");
    assert!(!home.host.namespace(TRADER).exists());

    // A link to one, and a part of one.
    let home = Home::new();
    fs::create_dir_all(path_of(&home, ".hecate")).unwrap();
    fs::create_dir(path_of(&home, "real")).unwrap();
    symlink(path_of(&home, "real"), home.repository()).unwrap();
    assert!(home.refused(&["init"]).contains("is a symbolic link or a file"));
    assert_eq!(fs::read_dir(path_of(&home, "real")).unwrap().count(), 0);
    fs::remove_file(home.repository()).unwrap();
    Home::git_at(&path_of(&home, ".hecate"), &["init", "--quiet"]);
    home.done(&["init"]);
    assert_eq!(home.commits().len(), 1, "a repository of its own, and not the one around it");

    // Uncommitted changes, of a generated file and of another.
    for (file, change) in [("hecate-daemon/config.env", "mine"), ("own.yaml", "mine")] {
        fs::write(home.repository().join(file), change).unwrap();
        for arguments in [&["init"][..], &["add", TRADER, "--image", IMAGE, "--uid", "1001"], &["remove", TRADER]] {
            let why = home.refused(arguments);
            assert!(why.contains("uncommitted") && why.contains(file), "{why}");
        }
        assert_eq!(home.file(file), change);
        home.git(&["add", "."]);
        home.git(&["checkout", "--quiet", "HEAD", "."]);
        home.git(&["reset", "--quiet", "--hard"]);
    }

    // Another branch, and no branch.
    home.git(&["switch", "--quiet", "--create", "try"]);
    assert!(home.refused(&["add", TRADER, "--image", IMAGE, "--uid", "1001"]).contains("is on branch try"));
    home.git(&["switch", "--quiet", "--detach"]);
    assert!(home.refused(&["add", TRADER, "--image", IMAGE, "--uid", "1001"]).contains("is on branch none"));
    home.git(&["switch", "--quiet", "main"]);

    // A generated file that became a link, or larger than any generated one.
    let settings = home.repository().join("hecate-daemon/config.env");
    fs::remove_file(&settings).unwrap();
    symlink(path_of(&home, "target"), &settings).unwrap();
    home.git(&["commit", "--quiet", "--all", "--message", "link"]);
    let why = home.refused(&["add", TRADER, "--image", IMAGE, "--uid", "1001"]);
    assert!(why.contains("config.env") && !path_of(&home, "target").exists(), "{why}");
    fs::remove_file(&settings).unwrap();
    let most = usize::try_from(hecate_daemon::limits::GITOPS_FILE).unwrap();
    let padded = |length: usize| format!("HECATE_ALLOWED_UIDS=\n#{}", "x".repeat(length - 22));
    fs::write(&settings, padded(most + 1)).unwrap();
    home.git(&["commit", "--quiet", "--all", "--message", "large"]);
    let why = home.refused(&["add", TRADER, "--image", IMAGE, "--uid", "1001"]);
    assert!(why.contains("exceeds the"), "{why}");
    fs::write(&settings, padded(most)).unwrap();
    home.git(&["commit", "--quiet", "--all", "--message", "as large as allowed"]);
    home.add(&[]);
}

/// Files that ignore rules hide from `git status` are kept, and never committed.
#[test]
fn ignored_files_are_kept_and_not_committed() {
    let home = Home::new();
    home.done(&["init"]);
    fs::write(home.repository().join(".gitignore"), "hecate-*d/*\n").unwrap();
    home.git(&["add", "."]);
    home.git(&["commit", "--quiet", "--message", "mine"]);
    let ours = home.repository().join(TRADER);
    fs::create_dir(&ours).unwrap();
    let mine = "password: mine\nimage: \"mine:1\"\n";
    fs::write(ours.join("daemonset.yaml"), mine).unwrap();
    let why = home.refused(&["add", TRADER, "--image", IMAGE, "--uid", "1001"]);
    assert!(why.contains("uncommitted changes (hecate-traderd/daemonset.yaml)"), "{why}");
    assert_eq!(home.file("hecate-traderd/daemonset.yaml"), mine);
    assert!(!home.git(&["log", "--patch"]).contains("password"));
    // A directory without committed files is not deployed either.
    assert_eq!(home.done(&["remove", TRADER])["notes"], json!(["'hecate-traderd' is not deployed on this host"]));
    let status: Value = serde_json::from_slice(&home.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["plugins"], json!([]));
    // Our files are committed even if ignore rules match them.
    fs::remove_dir_all(&ours).unwrap();
    home.add(&[]);
    assert!(home.git(&["ls-files"]).contains("hecate-traderd/daemonset.yaml"));
    home.done(&["remove", TRADER]);
}

#[test]
fn a_plugin_keeps_its_user() {
    let home = Home::new();
    home.done(&["init"]);
    home.add(&[]);
    home.done(&["add", TRADER, "--image", "registry.example/hecate-traderd:2", "--frontend-image", FRONTEND]);
    for file in ["hecate-traderd/daemonset.yaml", "hecate-traderw/daemonset.yaml"] {
        assert!(home.file(file).contains("runAsUser: 1001\n"), "{file}");
    }
    assert!(home.file("hecate-daemon/config.env").contains("HECATE_ALLOWED_UIDS=1001\n"));

    // The uid stays allowed when the last plugin of a user is removed, and a note says so.
    let still = |removed: Value| {
        removed["notes"].as_array().unwrap().iter().any(|n| n.as_str().unwrap().contains("uid 1001 may"))
    };
    home.done(&["add", "hecate-marthad", "--image", "registry.example/m:1", "--uid", "1001"]);
    assert!(!still(home.done(&["remove", TRADER])));
    assert!(still(home.done(&["remove", "hecate-marthad"])));
}

#[test]
fn committed_changes_of_people_are_kept() {
    let home = Home::new();
    home.done(&["init"]);
    home.add(&[]);
    let change = |path: &str, from: &str, to: &str| {
        let text = home.file(path);
        assert!(text.contains(from), "{from} in {text}");
        fs::write(home.repository().join(path), text.replace(from, to)).unwrap();
    };
    change("hecate-traderd/daemonset.yaml", "memory: 512Mi", "memory: 2Gi");
    change("hecate-daemon/config.env", "ERL_DIST_PORT=9100", "ERL_DIST_PORT=9200");
    change("kustomization.yaml", "  - hecate-traderd\n", "  - hecate-traderd\n  - own\n");
    fs::create_dir(home.repository().join("own")).unwrap();
    fs::write(home.repository().join("own/kustomization.yaml"), "resources: []\n").unwrap();
    home.git(&["add", "."]);
    home.git(&["commit", "--quiet", "--message", "mine"]);

    home.done(&["init", "--image", "localhost/hecate-daemon:2"]);
    home.done(&["add", TRADER, "--image", "registry.example/hecate-traderd:2", "--uid", "1002"]);
    let manifest = home.file("hecate-traderd/daemonset.yaml");
    for line in ["memory: 2Gi", "image: \"registry.example/hecate-traderd:2\"", "runAsUser: 1002"] {
        assert!(manifest.contains(line), "{line} in {manifest}");
    }
    assert!(home.file("hecate-daemon/config.env").contains("HECATE_ALLOWED_UIDS=1001,1002\n"));
    assert!(home.file("hecate-daemon/config.env").contains("ERL_DIST_PORT=9200"));
    home.done(&["remove", TRADER]);
    assert_eq!(home.listed(), ["hecate-daemon", "own"]);
    // Removed files are written again.
    fs::remove_dir_all(home.repository().join("flux")).unwrap();
    home.git(&["commit", "--quiet", "--all", "--message", "no Flux"]);
    assert_eq!(home.done(&["init"])["message"], "Add what is missing of hecate-daemon");
    assert!(home.repository().join("flux/sync.yaml").exists());
}

#[test]
fn a_second_command_at_the_same_time_is_refused() {
    let home = Home::new();
    home.done(&["init"]);
    let directory = fs::File::open(home.repository()).unwrap();
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(home.refused(&["add", TRADER, "--image", IMAGE, "--uid", "1001"]).contains("another command is using"));
    drop(directory);
    home.add(&[]);
}

#[test]
fn arguments_cannot_inject_text() {
    let home = Home::new();
    home.done(&["init"]);
    let usage = |arguments: &[&str]| {
        let output = home.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    };
    for name in ["hecate-daemon", "hecate-traderw", "gitops", "../hecate-d", "hecate-d\nd", "-hecate-d", ""] {
        usage(&["add", "--image", IMAGE, "--", name]);
        usage(&["remove", "--", name]);
    }
    for image in ["", "hecate-traderd", "a:1\"\nhostPID: true", "a:1 # ", "{{x}}:1", "a:1\n", "-a:1"] {
        usage(&["add", TRADER, "--image", image]);
        usage(&["add", TRADER, "--image", IMAGE, "--frontend-image", image]);
        usage(&["init", "--image", image]);
    }
    usage(&["add", TRADER, "--image", IMAGE, "--uid", "0"]);
    usage(&["add", TRADER]);
    usage(&[]);
    assert_eq!(home.commits().len(), 1);
    assert!(!home.host.namespace(TRADER).exists());

    // A home whose name means something to YAML or to systemd.
    let odd = path_of(&home, "a b: %h\"");
    fs::create_dir(&odd).unwrap();
    let why = home.refused(&["init", "--home", odd.to_str().unwrap()]);
    assert!(why.contains("cannot be used in manifests"), "{why}");
    assert!(!odd.join("gitops").exists());
    // And one too deep for a socket.
    let deep = path_of(&home, &"d".repeat(90));
    let deep = deep.to_str().unwrap();
    home.run(&["init", "--home", deep]);
    assert!(home.refused(&["add", TRADER, "--image", IMAGE, "--uid", "1001", "--home", deep]).contains("limit of 107"));
}

#[test]
fn a_missing_git_is_reported() {
    let mut home = Home::new();
    home.environment = vec![("PATH", home.host.no_programs().to_str().unwrap().to_owned())];
    assert!(home.refused(&["init"]).contains("cannot run git"));
}

#[test]
fn no_secret_is_ever_written() {
    let mut home = Home::new();
    home.environment = vec![("HECATE_COOKIE", "s3cr3tcookie".to_owned())];
    fs::write(path_of(&home, ".erlang.cookie"), "an0thersecret").unwrap();
    home.done(&["init"]);
    home.add(&["--frontend-image", FRONTEND]);
    let all = home.git(&["log", "--patch"]);
    assert!(all.contains("hecate-cookie"), "it is named");
    assert!(!all.contains("s3cr3t") && !all.contains("an0ther"), "and not shown");
}

#[test]
fn status_compares_the_repository_with_the_daemon() {
    let home = Home::new();
    let output = home.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("hecate-daemon gitops init"));
    home.done(&["init"]);
    home.add(&["--frontend-image", FRONTEND]);
    home.done(&["add", "hecate-marthad", "--image", "registry.example/m:1", "--uid", "1001"]);

    // Without a daemon, it shows the deployed plugins and reports the missing daemon.
    let output = home.run(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        status["plugins"][1],
        json!({
            "name": TRADER, "deployed": true, "image": IMAGE, "frontend_image": FRONTEND,
            "registered": null, "version": null, "status": null,
        })
    );

    let daemon = home.host.daemon(&[]);
    daemon.ready();
    home.host.register(&json!({"name": TRADER, "version": "0.1.0"}));
    home.host.register(&json!({"name": "hecate-otherd"}));
    fs::write(home.repository().join("note"), "").unwrap();
    let output = home.run(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["changes"], json!(["note"]));
    let rows = status["plugins"].as_array().unwrap();
    let seen: Vec<_> =
        rows.iter().map(|row| (&row["name"], &row["deployed"], &row["registered"], &row["status"])).collect();
    let expected = [
        json!(["hecate-marthad", true, false, null]),
        json!(["hecate-otherd", false, true, "running"]),
        json!([TRADER, true, true, "running"]),
    ];
    assert_eq!(seen.iter().map(|row| json!([row.0, row.1, row.2, row.3])).collect::<Vec<_>>(), expected);
    let text = String::from_utf8(home.run(&["status"]).stdout).unwrap();
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(words.contains(&vec![TRADER, "yes", "running", IMAGE, FRONTEND]), "{text}");
    assert!(words.contains(&vec!["hecate-otherd", "no", "running", "-", "-"]), "{text}");
}

/// Runs the `gitops` commands of the manual in its order.
#[test]
fn the_commands_of_the_manual_work() {
    let home = Home::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = fs::read_to_string(root.join("deploy/README.md")).unwrap();
    let commands: Vec<&str> = manual.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    let git = "git -C ~/.hecate/gitops ";
    let reverts = |line: &&str| line.strip_prefix(git).is_some_and(|rest| rest.contains(" revert "));
    let revert = commands.iter().position(reverts).expect("a rollback");
    let (before, after) = commands.split_at(revert);
    // The guide builds the image that is deployed.
    let built = format!("podman build -t localhost/hecate-daemon:{} ", env!("CARGO_PKG_VERSION"));
    assert!(before.iter().any(|line| line.starts_with(&built)), "{built}");
    let run = |commands: &[&str]| -> usize {
        let ours: Vec<&str> = commands.iter().filter_map(|line| line.strip_prefix("hecate-daemon gitops ")).collect();
        for command in &ours {
            let mut words: Vec<&str> = command.split_whitespace().collect();
            // As root, the first `add` of a plugin needs `--uid`.
            if words[0] == "add" && !home.repository().join(TRADER).exists() {
                words.extend(["--uid", "1001"]);
            }
            home.done(&words);
        }
        ours.len()
    };
    assert!(run(before) >= 5, "{commands:?}");
    assert!(home.file("hecate-daemon/daemonset.yaml").contains("hecate-daemon:0.1.1"));
    assert!(home.file("hecate-traderd/daemonset.yaml").contains("hecate-traderd:0.2.0"));
    // It needs no identity in Git's configuration.
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").arg("-C").arg(home.repository());
    let output = command.args(after[0][git.len()..].split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(home.file("hecate-traderd/daemonset.yaml").contains("hecate-traderd:0.1.0"));
    assert!(home.file("hecate-daemon/daemonset.yaml").contains("hecate-daemon:0.1.0"));
    assert_eq!(run(after), 1, "{commands:?}");
    assert_eq!(home.listed(), ["hecate-daemon"]);
    // Every file that it names is there.
    for named in manual.split('`').skip(1).step_by(2).filter(|word| !word.contains([' ', '~', '*', '…'])) {
        let (folder, path) = (root.join("deploy"), Path::new(named));
        let is_ours = ["k3s/", "flux/", "quadlet/", "systemd/"].iter().any(|start| named.starts_with(start));
        assert!(!is_ours || folder.join(path).exists(), "{named}");
    }
}
