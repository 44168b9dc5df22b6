//! Homes that belong to another user, or whose parts are mounted.

use super::*;

/// Starts the daemon as another user with its home in `~/.hecate`. It runs a copy of the program,
/// because that user may not be able to reach the original.
fn as_stranger(host: &Host) -> Daemon {
    as_user(host, STRANGER, &[("HECATE_HOME", host.namespace("").to_str().unwrap())])
}

/// Makes a directory with this owner and mode. Its missing parents belong to root and are open to
/// all users.
fn directory(path: &Path, owner: u32, mode: u32) {
    std::fs::create_dir_all(path).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Returns the code and the detail of the problem in `/health`, and the health's status.
fn problem(host: &Host) -> (String, String, String) {
    let health = host.ask("GET", "/health").body;
    let problem = &health["problems"][0];
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{health}")).to_owned();
    (text(&problem["code"]), text(&problem["detail"]), text(&health["status"]))
}

#[test]
fn a_home_where_only_the_daemons_namespace_is_writable_is_reported() {
    let host = shared_host();
    let home = host.namespace("");
    directory(&home, 0, 0o755);
    directory(&host.namespace("hecate-daemon"), STRANGER, 0o700);
    directory(&host.namespace("hecate-traderd"), STRANGER, 0o700);
    directory(&host.namespace("hecate-marthad"), 0, 0o755);
    directory(&host.namespace("hecate-secretd"), 0, 0o700);
    let daemon = as_stranger(&host);
    daemon.ready();
    daemon.logs(&["WARN", "home_not_writable", home.to_str().unwrap().trim_end_matches('/')]);
    let (code, detail, status) = problem(&host);
    assert_eq!((code.as_str(), status.as_str()), ("home_not_writable", "unhealthy"));
    assert!(
        detail.contains("the daemon runs as uid 61000") && detail.contains("belongs to uid 0 with mode 0755"),
        "{detail}"
    );

    // A plugin whose directory exists can register. A missing or foreign directory is refused by
    // name.
    host.register_named("hecate-traderd");
    for (name, place) in [
        ("hecate-newd", "hecate-newd"),
        ("hecate-marthad", "hecate-marthad/sqlite"),
        ("hecate-secretd", "hecate-secretd/sqlite"),
    ] {
        let answer = host.register(&json!({ "name": name }));
        assert_eq!((answer.status, &answer.body["code"]), (500, &json!("layout_failed")), "{answer:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        let path = host.namespace(place);
        assert!(
            detail.contains(path.to_str().unwrap()) && detail.contains("change its owner to uid 61000"),
            "{detail}"
        );
    }
    let list = host.ask("GET", "/api/plugins").body;
    assert_eq!((list.as_array().unwrap().len(), &list[0]["name"]), (1, &json!("hecate-traderd")));
}

#[test]
fn a_daemons_namespace_of_another_user_is_refused() {
    // The mode of the home, the mode of the daemon's own namespace, and the path that the error
    // names.
    for (home, own, missing) in
        [(0o755, None, "hecate-daemon"), (0o755, Some(0o755), "hecate-daemon/sqlite"), (0o700, None, "")]
    {
        let host = shared_host();
        directory(&host.namespace(""), 0, home);
        if let Some(mode) = own {
            directory(&host.namespace("hecate-daemon"), 0, mode);
        }
        let mut daemon = as_stranger(&host);
        assert_eq!(daemon.ended(), Some(1));
        let path = host.namespace(missing);
        daemon.logs(&["ERROR", "ermission denied", path.to_str().unwrap().trim_end_matches('/')]);
    }
}

#[test]
fn an_unwritable_home_without_configuration_is_refused() {
    let host = shared_host();
    let by = [program("setpriv"), "--reuid=61000".into(), "--regid=61000".into(), "--clear-groups".into()];
    let copy = copy_of_program(&host);
    let run = format!("exec {}", copy.display());
    let by: Vec<&str> = by.iter().map(String::as_str).chain(["/bin/sh", "-c", &run]).collect();
    let mut daemon = Daemon::start_as(&host, &by, &[]);
    assert_eq!(daemon.ended(), Some(2));
    daemon.logs(&[
        host.home().to_str().unwrap(),
        "is not writable",
        "its owner is uid 0, and the daemon runs as uid 61000",
    ]);
}

#[test]
fn an_unreadable_database_is_set_aside() {
    let host = shared_host();
    directory(&host.namespace(""), STRANGER, 0o700);
    let daemon = as_stranger(&host);
    daemon.ready();
    host.register_named("hecate-traderd");
    daemon.terminate();
    std::fs::set_permissions(database::path(&host), std::fs::Permissions::from_mode(0o000)).unwrap();

    let daemon = as_stranger(&host);
    daemon.ready();
    daemon.logs(&["ERROR", "set_aside", "Permission denied"]);
    let (code, detail, status) = problem(&host);
    assert_eq!((code.as_str(), status.as_str()), ("registry_set_aside", "unhealthy"));
    assert!(detail.contains("plugins.db.damaged-"), "{detail}");
    assert_eq!(host.ask("GET", "/api/plugins").body, json!([]));
    host.register_named("hecate-traderd");
}

#[test]
fn a_plugin_whose_socket_another_user_keeps_closed_stays_running_through_a_restart() {
    let host = shared_host();
    directory(&host.namespace(""), STRANGER, 0o755);
    let home = host.namespace("");
    let environment = [("HECATE_HOME", home.to_str().unwrap()), ("HECATE_REGISTRATION_GRACE", "1")];
    for place in ["hecate-traderd", "hecate-traderd/sockets"] {
        directory(&host.namespace(place), STRANGER, 0o755);
    }
    let path = host.namespace("hecate-traderd").join("sockets/api.sock");
    let _plugin = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let daemon = as_user(&host, STRANGER, &environment);
    daemon.ready();
    host.register_named("hecate-traderd");
    let since = host.plugin("hecate-traderd")["since"].clone();
    let advice = format!("`chmod 0660 {}` as uid 0", path.display());
    let stays_unknown = || {
        wait_for("the reason names the command", || {
            let plugin = host.plugin("hecate-traderd");
            assert_eq!(plugin["status"], "running", "{plugin}");
            plugin["reason"].as_str().unwrap().contains(&advice)
        });
    };
    stays_unknown();
    daemon.terminate();

    let daemon = as_user(&host, STRANGER, &environment);
    daemon.ready();
    stays_unknown();
    // Each change of the status sets `since`, so the status did not change.
    assert_eq!(host.plugin("hecate-traderd")["since"], since);

    chown(&path, None, Some(STRANGER)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    wait_for("the socket answers", || host.plugin("hecate-traderd")["reason"] == "its socket answers");
    std::fs::remove_file(&path).unwrap();
    host.plugin_until("hecate-traderd", "stopped");
}

/// Starts the daemon in a new mount namespace, after these commands.
fn with_mounts(host: &Host, commands: &str) -> Daemon {
    let script = format!("set -e; {commands}; exec \"$0\"");
    let home = host.namespace("");
    let own = host.namespace("hecate-daemon");
    let environment = [("HOME_OF_ALL", home.to_str().unwrap()), ("OWN", own.to_str().unwrap())];
    let (unshare, mount) = (program("unshare"), program("mount"));
    let by = [&unshare, "--mount", "/bin/sh", "-c", &script];
    Daemon::start_as(host, &by, &[environment[0], environment[1], ("MOUNT", &mount)])
}

#[test]
fn a_home_where_only_the_daemons_namespace_is_mounted_is_reported() {
    let host = shared_host();
    std::fs::create_dir_all(host.namespace("hecate-daemon")).unwrap();
    let daemon = with_mounts(&host, "$MOUNT --bind $OWN $OWN");
    daemon.ready();
    daemon.logs(&["WARN", "home_not_mounted", host.namespace("hecate-daemon").to_str().unwrap()]);
    let (code, detail, status) = problem(&host);
    assert_eq!((code.as_str(), status.as_str()), ("home_not_mounted", "healthy"), "this can be intended");
    assert!(detail.ends_with("instead"), "{detail}");
    host.register_named("hecate-traderd");
}

#[test]
fn a_read_only_home_is_reported() {
    let host = shared_host();
    std::fs::create_dir_all(host.namespace("hecate-daemon")).unwrap();
    let read_only =
        "$MOUNT --bind $HOME_OF_ALL $HOME_OF_ALL; $MOUNT --bind $OWN $OWN; $MOUNT -o remount,ro,bind $HOME_OF_ALL";
    // Without `HECATE_HOME`, the search for a home already fails.
    let mut refused = with_mounts(&host, read_only);
    assert_eq!(refused.ended(), Some(2));
    refused.logs(&[".hecate", "is not writable", "Read-only file system"]);

    // With `HECATE_HOME`, as in a container, the daemon starts and reports the problem.
    let daemon = with_mounts(&host, &format!("{read_only}; export HECATE_HOME=$HOME_OF_ALL"));
    daemon.ready();
    let (code, detail, status) = problem(&host);
    assert_eq!((code.as_str(), status.as_str()), ("home_not_writable", "unhealthy"));
    assert!(detail.contains("Read-only file system") && detail.contains("mount it writable"), "{detail}");
    let answer = host.register(&json!({"name": "hecate-traderd"}));
    assert_eq!((answer.status, &answer.body["code"]), (500, &json!("layout_failed")), "{answer:?}");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains(host.namespace("hecate-traderd").to_str().unwrap()), "{detail}");
    assert!(detail.contains("Read-only file system"), "{detail}");
}

/// A bind mount, removed when this value is dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(source: &std::path::Path, target: &std::path::Path) -> Self {
        let mounted = Command::new("mount").arg("--bind").args([source, target]).status();
        assert!(mounted.expect("`mount` is not installed").success());
        Self(target.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_purge_stops_at_mount_points() {
    let host = shared_host();
    let daemon = host.daemon(&[]);
    daemon.ready();
    host.register(&json!({"name": "hecate-traderd"}));
    host.ask("DELETE", "/api/plugins/hecate-traderd");
    let outside = host.home().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "kept").unwrap();
    // Entries beside the mount are still removed.
    std::fs::write(host.namespace("hecate-traderd").join("run/gone"), "").unwrap();
    let mut mounted = Mounted::new(&outside, &host.namespace("hecate-traderd").join("sqlite"));
    let refused = host.ask("DELETE", "/api/plugins/hecate-traderd/data");
    assert_eq!((refused.status, &refused.body["code"]), (500, &json!("purge_incomplete")), "{}", refused.body);
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("/sqlite") && detail.contains("mounted") && detail.contains("restart"), "{detail}");
    assert_eq!(std::fs::read_to_string(outside.join("kept")).unwrap(), "kept");

    // The next start removes the rest, after the mount is gone. The mount moved with its directory.
    let home = host.home().join(".hecate");
    let left = || std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let aside = left().into_iter().find(|name| name != "hecate-daemon").unwrap();
    mounted.0 = home.join(&aside).join("sqlite");
    assert!(!home.join(aside).join("run").exists());
    drop(mounted);
    daemon.terminate();
    let daemon = host.daemon(&[]);
    daemon.ready();
    wait_for("the remaining entries are removed", || left() == ["hecate-daemon"]);
    assert_eq!(std::fs::read_to_string(outside.join("kept")).unwrap(), "kept");
}

/// Runs a command as another user, with the settings for this host.
fn run_as(host: &Host, uid: u32, arguments: &[&str]) -> (Option<i32>, String) {
    let copy = copy_of_program(host);
    let id = uid.to_string();
    let mut command = Command::new(program("setpriv"));
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(copy).args(arguments);
    let home = host.namespace("");
    let settings = Daemon::command(host, &[("HECATE_HOME", home.to_str().unwrap()), ("HECATE_LISTEN", "127.0.0.1")]);
    command.env_clear().envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), text)
}

#[test]
fn a_closed_socket_is_explained_to_other_users() {
    let host = shared_host();
    let daemon = host.daemon(&[]);
    daemon.ready();
    let (code, text) = run_as(&host, STRANGER, &["status"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("this user (uid 61000) may not open the socket"), "{text}");
    assert!(text.contains("HECATE_ALLOWED_UIDS") && !text.contains("start one"), "{text}");
}

#[test]
fn doctor_names_the_owner_of_a_home_and_does_not_suggest_to_change_it() {
    let friend = FRIEND.to_string();
    let open = open_modes(&friend);
    let closed = [("HECATE_LISTEN", "127.0.0.1")];
    for (environment, uid, code, words) in [
        (&closed[..], STRANGER, 1, &["FAIL  home", "may not open the socket"][..]),
        (&open, STRANGER, 1, &["FAIL  home", "the daemon answers at", "does not allow this user (uid 61000)"]),
        (&open, FRIEND, 0, &["warn  home", "a daemon answers at"]),
    ] {
        let host = shared_host();
        let _epmd = host.epmd();
        let daemon = host.daemon(environment);
        daemon.ready();
        let (exit, text) = run_as(&host, uid, &["doctor"]);
        assert_eq!(exit, Some(code), "{text}");
        for word in words.iter().chain(&["belongs to uid 0", "run `hecate-daemon doctor` as uid 0"]) {
            assert!(text.contains(word), "{text} lacks {word}");
        }
        let lines = |check: &str| text.lines().filter(|line| line.split_whitespace().nth(1) == Some(check)).count();
        assert_eq!((lines("home"), lines("cookie"), lines("lock"), lines("HOME")), (1, 0, 0, 0), "{text}");
        assert!(!text.contains("chown") && !text.contains("hecate_6"), "{text}");
    }
}
