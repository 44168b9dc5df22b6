//! Checks `deploy/` without a cluster. The tests validate every manifest against its schema, and
//! run Quadlet's generator and systemd's checkers on the units. They run the static binary and a
//! plugin in pods as the manifests describe them. `make test-deploy` installs the tools and runs
//! these tests as root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test ends where it is surprised")]

#[path = "deploy/pod.rs"]
mod pod;
mod support;
#[path = "deploy/units.rs"]
mod units;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pod::{Image, Node, object, text};
use serde_json::{Value, json};
use support::erl::{Erl, Start};
use support::plugin::TRADER;
use support::{Host, Output as Collected, Process, wait_for};

const TRADER_IMAGE: &str = "registry.example/hecate-traderd:0.1.0";
const FRONTEND_IMAGE: &str = "registry.example/hecate-traderw:0.1.0";

/// Users without an account: the owner of the home with its group, and the plugin's user.
const OWNER: u32 = 61_100;
const GROUP: u32 = 61_101;
const PLUGIN: u32 = 61_102;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path in a variable that `make test-deploy` sets.
fn path_in(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: run `make test-deploy`")).into()
}

fn tool(name: &str) -> PathBuf {
    path_in("HECATE_DEPLOY_TOOLS").join(name)
}

/// The binary of the image.
fn static_binary() -> PathBuf {
    path_in("HECATE_STATIC_BINARY")
}

/// Returns the standard output of a command that must succeed.
#[track_caller]
fn ran(output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the objects that kustomize builds from a directory, validated against their schemas.
fn built(directory: &Path) -> Vec<Value> {
    let manifests = ran(Command::new(tool("kubectl")).arg("kustomize").arg(directory).output().expect("kubectl runs"));
    let mut check = Command::new(tool("python"));
    check.arg(root().join("tests/deploy/check.py")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().expect("python runs");
    check.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
    let checked = ran(check.wait_with_output().unwrap());
    serde_json::from_str(&checked).expect("a list")
}

/// A home with a repository that deploys a plugin and its frontend.
struct Deployed {
    host: Host,
    owner: u32,
}

impl Deployed {
    /// Creates the home and the repository as their owner.
    fn by(owner: u32) -> Self {
        let host = Host::new();
        // The owner must be able to run the binary.
        let binary = host.home().join("hecate-daemon");
        fs::copy(static_binary(), &binary).expect("`make static` builds it");
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        if owner != 0 {
            chown(host.home(), Some(owner), Some(GROUP)).unwrap();
        }
        let deployed = Self { host, owner };
        deployed.gitops(&["init"]);
        let uid = PLUGIN.to_string();
        deployed.gitops(&["add", TRADER, "--image", TRADER_IMAGE, "--frontend-image", FRONTEND_IMAGE, "--uid", &uid]);
        deployed
    }

    fn binary(&self) -> PathBuf {
        self.host.home().join("hecate-daemon")
    }

    /// Returns a command that runs as the owner.
    fn as_owner(&self) -> Command {
        let (uid, gid) = if self.owner == 0 { (0, 0) } else { (self.owner, GROUP) };
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.host.home());
        command.current_dir(self.host.home());
        command
    }

    fn gitops(&self, arguments: &[&str]) -> Value {
        let output = self.as_owner().arg(self.binary()).arg("gitops").args(arguments).arg("--json").output();
        serde_json::from_str(&ran(output.expect("install util-linux"))).unwrap()
    }

    fn repository(&self) -> PathBuf {
        self.host.namespace("gitops")
    }

    /// Edits a file and commits it, as a person would.
    fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.repository().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        fs::write(&path, text.replace(from, to)).unwrap();
        let commit = ["-c", "user.name=Person", "-c", "user.email=person@localhost", "commit", "-qam", "by hand"];
        ran(self.as_owner().args(["git", "-C"]).arg(self.repository()).args(commit).output().unwrap());
    }
}

/// Binds a plugin's socket and opens it to the group, so that the daemon's user can connect.
fn bind(plugin: &mut Erl, socket: &Path) {
    plugin.binds(socket);
    assert_eq!(plugin.eval(&format!(r#"file:change_mode("{}", 8#660)"#, socket.display())), "ok");
}

/// The running first process of a pod.
struct Serving {
    process: Process,
    out: Collected,
    log: Collected,
}

impl Serving {
    fn start(words: &[String]) -> Self {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(&mut command, "Install util-linux");
        let out = Collected::collect(process.pipes().stdout.take().unwrap(), Some);
        let log = Collected::collect(process.pipes().stderr.take().unwrap(), Some);
        Self { process, out, log }
    }

    fn ready(&mut self) -> String {
        wait_for("the daemon is ready", || {
            let ended = self.process.pipes().try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", self.log.text());
            self.out.text().ends_with('\n')
        });
        self.out.text().trim_end().to_owned()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        pod::end(self.process.id());
        if std::thread::panicking() {
            eprintln!("---- log of the pod ----\n{}----", self.log.text());
        }
    }
}

/// Returns the path of the image's entry point.
fn entry_point() -> String {
    let text = fs::read_to_string(root().join("deploy/Containerfile")).unwrap();
    let list = text.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).expect("an entry point");
    let words: Vec<String> = serde_json::from_str(list).unwrap();
    assert!(
        text.contains(&format!("COPY --from=build /hecate-daemon {}\n", words[0])),
        "the image contains the entry point"
    );
    words[0].clone()
}

// ---- Manifests ------------------------------------------------------------------------------

#[test]
fn every_manifest_matches_its_schema() {
    for directory in [
        "k3s/base",
        "k3s/overlays/pod-network",
        "k3s/overlays/root",
        "k3s/plugin/hecate-traderd",
        "k3s/plugin/hecate-traderw",
        "flux",
    ] {
        let objects = built(&root().join("deploy").join(directory));
        assert!(!objects.is_empty(), "{directory}");
        for object in objects {
            assert_ne!(object["kind"], "Secret", "no Secret in {directory}");
        }
    }
}

#[test]
fn the_manifests_of_the_repository_are_valid_with_each_network() {
    let deployed = Deployed::by(OWNER);
    let objects = built(&deployed.repository());
    let kinds: Vec<String> =
        objects.iter().map(|o| format!("{} {}", text(&o["kind"]), text(&o["metadata"]["name"]))).collect();
    for wanted in [
        "Namespace hecate",
        "Service hecate-daemon",
        "DaemonSet hecate-daemon",
        "DaemonSet hecate-traderd",
        "DaemonSet hecate-traderw",
        "NetworkPolicy hecate-cluster",
    ] {
        assert!(kinds.iter().any(|kind| kind == wanted), "{wanted} in {kinds:?}");
    }
    for name in ["hecate-daemon", "hecate-traderd", "hecate-traderw"] {
        let spec = &object(&objects, "DaemonSet", name)["spec"]["template"]["spec"];
        assert_eq!(
            (&spec["hostNetwork"], &spec["dnsPolicy"]),
            (&true.into(), &"ClusterFirstWithHostNet".into()),
            "{name}"
        );
        let home = deployed.host.home().to_str().unwrap();
        assert!(!spec.to_string().contains("/home/user"), "{spec}");
        let mounts = spec["containers"][0]["volumeMounts"].as_array().unwrap();
        let shared = mounts.iter().filter(|mount| mount["mountPath"] != "/tmp");
        for mount in shared {
            // The same path inside and outside.
            let volumes = spec["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            assert_eq!(volume["hostPath"]["path"], mount["mountPath"], "{name}");
            assert!(text(&mount["mountPath"]).starts_with(home), "{mount}");
        }
    }
    let flux = built(&deployed.repository().join("flux"));
    let server = &object(&flux, "Deployment", "hecate-git")["spec"]["template"]["spec"];
    assert_eq!(server["volumes"][0]["hostPath"]["path"], deployed.repository().join(".git").to_str().unwrap());

    // In pods with addresses, the host part of node names is the address.
    let chosen = "# components:\n#   - components/pod-network\n";
    deployed.change("kustomization.yaml", chosen, "components:\n  - components/pod-network\n");
    let objects = built(&deployed.repository());
    for name in ["hecate-daemon", "hecate-traderd", "hecate-traderw"] {
        let spec = &object(&objects, "DaemonSet", name)["spec"]["template"]["spec"];
        assert_eq!((&spec["hostNetwork"], &spec["dnsPolicy"]), (&false.into(), &"ClusterFirst".into()), "{name}");
        let variables = spec["containers"][0]["env"].as_array().unwrap();
        let host = variables.iter().find(|variable| variable["name"] == "HECATE_HOSTNAME");
        let address = host.map(|host| host["valueFrom"]["fieldRef"]["fieldPath"].clone());
        assert_eq!(
            address,
            (name != "hecate-traderw").then(|| "status.podIP".into()),
            "{name}: only frontends have no node"
        );
    }
}

#[test]
fn the_git_server_serves_the_repository_and_refuses_pushes() {
    for owner in [OWNER, 0] {
        the_git_server_serves_the_repository_of(owner);
    }
}

fn the_git_server_serves_the_repository_of(owner: u32) {
    let deployed = Deployed::by(owner);
    let flux = built(&deployed.repository().join("flux"));
    let spec = &object(&flux, "Deployment", "hecate-git")["spec"]["template"]["spec"];
    let node = Node::new(&deployed.host.name, "");
    // Mounts the web server's directory, which the Containerfile copies into the image.
    let www = deployed.host.home().join("www/cgi-bin");
    fs::create_dir_all(&www).unwrap();
    let containerfile = fs::read_to_string(root().join("deploy/flux/Containerfile")).unwrap();
    assert!(containerfile.contains("COPY --chmod=0755 git.cgi /srv/www/cgi-bin/git\n"));
    fs::copy(root().join("deploy/flux/git.cgi"), www.join("git")).unwrap();
    let mut with_www = spec.clone();
    let volume = json!({"name": "www", "hostPath": {"path": deployed.host.home().join("www"), "type": "Directory"}});
    with_www["volumes"].as_array_mut().unwrap().push(volume);
    let mount = json!({"name": "www", "mountPath": "/srv/www", "readOnly": true});
    with_www["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
    let server =
        json!({"kind": "Deployment", "metadata": {"name": "hecate-git"}, "spec": {"template": {"spec": with_www}}});
    let pod = node.pod(&[server], "Deployment", "hecate-git", Image::Machine);
    let command = spec["containers"][0]["command"].as_array().unwrap();
    let words: Vec<String> =
        pod.through().into_iter().chain(command.iter().map(|word| text(word).to_owned())).collect();
    let _serving = Serving::start(&words);

    // The URL in the GitRepository, with the host and port of the server in this test.
    let url = text(&object(&flux, "GitRepository", "hecate")["spec"]["url"]);
    let service = object(&flux, "Service", "hecate-git");
    let host =
        format!("{}.{}.svc.cluster.local", text(&service["metadata"]["name"]), text(&service["metadata"]["namespace"]));
    let port = &spec["containers"][0]["ports"][0]["containerPort"];
    assert_eq!(service["spec"]["ports"][0]["port"], 80);
    let url = url.replace(&host, &format!("127.0.0.1:{port}"));
    let clone = deployed.host.home().join("clone");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("nsenter");
        git.arg(node.network()).args(["git", "-c", "protocol.version=2"]).args(arguments).output().expect("install git")
    };
    wait_for("the Git server serves", || git(&["ls-remote", &url]).status.success());
    ran(git(&["clone", "--quiet", "--branch", "main", &url, clone.to_str().unwrap()]));
    assert!(clone.join("hecate-traderd/daemonset.yaml").exists());
    // A pull gets a later commit.
    deployed.gitops(&["remove", TRADER]);
    ran(git(&["-C", clone.to_str().unwrap(), "pull", "--quiet"]));
    assert!(!clone.join("hecate-traderd").exists());
    let pushed = git(&["-C", clone.to_str().unwrap(), "push", "--quiet", "origin", "main:other"]);
    assert!(!pushed.status.success(), "{pushed:?}");
}

/// `sudo` may keep `HOME`. Directories that root created there would lock the owner out.
#[test]
fn gitops_refuses_to_write_in_another_users_home() {
    let host = Host::new();
    chown(host.home(), Some(OWNER), Some(GROUP)).unwrap();
    let mut init = Command::new(static_binary());
    init.args(["gitops", "init"]).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", host.home());
    let output = init.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("run it as the owner"), "{output:?}");
    assert!(!host.home().join(".hecate").exists());
}

// ---- Pods -----------------------------------------------------------------------------------

/// Checks that a plugin's pod can neither see nor change the files of others.
fn sees_only_its_own(host: &Host, plugin: &mut Erl) {
    let home = host.home().join(".hecate");
    let listed = plugin.eval(&format!(r#"{{ok, Names}} = file:list_dir("{}"), lists:sort(Names)"#, home.display()));
    assert_eq!(listed, r#"["hecate-daemon","hecate-traderd"]"#);
    let daemons = plugin.eval(&format!(r#"file:list_dir("{}")"#, home.join("hecate-daemon").display()));
    assert_eq!(daemons, r#"{ok,["sockets"]}"#);
    let refused = ["{error,erofs}", "{error,eacces}"];
    assert!(refused.contains(&plugin.eval(&format!(r#"file:delete("{}")"#, host.socket().display())).as_str()));
    assert!(host.socket().exists());
    assert!(
        refused.contains(&plugin.eval(r#"file:write_file("/written", "")"#).as_str()),
        "the root file system is read-only"
    );
}

/// Runs the daemon, a plugin and its frontend in pods, from the registration to the end.
fn a_plugin_lives_in_its_pod(owner: u32) {
    let deployed = Deployed::by(owner);
    let host = &deployed.host;
    let objects = built(&deployed.repository());
    let node = Node::new(&host.name, &host.cookie);
    let entry = entry_point();
    let binary = deployed.binary();
    let daemon_pod = node.pod(&objects, "DaemonSet", "hecate-daemon", Image::Scratch(&binary, &entry));
    let mut daemon = Serving::start(&daemon_pod.through());
    let line = daemon.ready();
    assert!(line.contains(host.socket().to_str().unwrap()) && line.ends_with(&host.node("hecate")), "{line}");
    let inside = fs::metadata(format!("/proc/{}", pod::inside(daemon.process.id()))).unwrap();
    assert_eq!(inside.uid(), owner);

    // The probes of the manifest.
    let container = &object(&objects, "DaemonSet", "hecate-daemon")["spec"]["template"]["spec"]["containers"][0];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let command: Vec<&str> = container[probe]["exec"]["command"].as_array().unwrap().iter().map(text).collect();
        ran(daemon_pod.exec(daemon.process.id(), &command));
    }

    // The plugin is a real node, with the environment and mounts of its manifest only.
    let plugin_pod = node.pod(&objects, "DaemonSet", TRADER, Image::Machine);
    let words = plugin_pod.through();
    let through: Vec<&str> = words.iter().map(String::as_str).collect();
    let name = host.node("hecate_traderd");
    let mut plugin = Erl::start(host, Start { name: Some(&name), through: &through, ..Start::default() });
    assert_eq!(plugin.eval(r#"os:getenv("HECATE_NODE_NAME")"#), r#""hecate_traderd""#);
    assert_eq!(plugin.eval("string:trim(os:cmd(\"id -u\"))"), format!("\"{PLUGIN}\""));
    plugin.registers(host, TRADER);
    assert_eq!(host.plugin(TRADER)["status"], "running");
    let paths = host.plugin(TRADER)["paths"].clone();
    assert_eq!(paths.as_object().unwrap().len(), 5);
    for (key, path) in paths.as_object().unwrap() {
        let file = format!("{}/written", text(path));
        assert_eq!(plugin.eval(&format!(r#"file:write_file("{file}", "{key}")"#)), "ok", "{file}");
        assert_eq!(fs::metadata(&file).unwrap().uid(), PLUGIN, "{file}");
    }
    bind(&mut plugin, &host.api_sock(TRADER));
    wait_for("the daemon finds the plugin's node", || host.plugin(TRADER)["node"] == host.node("hecate_traderd"));
    wait_for("the nodes are connected", || host.peer(&host.node("hecate_traderd")).as_deref() == Some("connected"));
    let probe = &object(&objects, "DaemonSet", TRADER)["spec"]["template"]["spec"]["containers"][0]["readinessProbe"];
    let command: Vec<&str> = probe["exec"]["command"].as_array().unwrap().iter().map(text).collect();
    ran(plugin_pod.exec(plugin.id(), &command));

    sees_only_its_own(host, &mut plugin);

    // The frontend can connect only to its plugin.
    let socket = host.socket();
    let frontend_pod = node.pod(&objects, "DaemonSet", "hecate-traderw", Image::Machine);
    let words = frontend_pod.through();
    let through: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut frontend = Erl::start(host, Start { through: &through, ..Start::default() });
    let connect = |path: &Path| format!(r#"element(1, gen_tcp:connect({{local, "{}"}}, 0, []))"#, path.display());
    let socket_path = frontend.eval(r#"os:getenv("HECATE_SOCKET_PATH")"#);
    assert_eq!(socket_path.trim_matches('"'), host.api_sock(TRADER).to_str().unwrap());
    assert_eq!(frontend.eval(&connect(&host.api_sock(TRADER))), "ok");
    assert_eq!(frontend.eval(&connect(&socket)), "error", "the daemon's socket is not mounted");

    // When the pod ends, the plugin is stopped and cleaned up. A new pod is the same plugin.
    plugin.kill();
    let stopped = host.plugin_until(TRADER, "stopped");
    assert!(text(&stopped["reason"]).contains("left the cluster"), "{stopped}");
    wait_for("the dead socket is removed", || !host.api_sock(TRADER).exists());
    let words = plugin_pod.through();
    let through: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut plugin = Erl::start(host, Start { name: Some(&name), through: &through, ..Start::default() });
    bind(&mut plugin, &host.api_sock(TRADER));
    plugin.registers(host, TRADER);
    assert_eq!(host.plugin_until(TRADER, "running")["node"], name);

    // The daemon ends within its grace period.
    let grace =
        &object(&objects, "DaemonSet", "hecate-daemon")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    let first = i32::try_from(pod::inside(daemon.process.id())).unwrap();
    let begun = std::time::Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_raw(first).unwrap(), rustix::process::Signal::TERM)
        .unwrap();
    let ended = daemon.process.ended("the daemon ends");
    assert!(ended.success() && begun.elapsed().as_secs() < grace.as_u64().unwrap(), "{ended}\n{}", daemon.log.text());
    assert!(!socket.exists());
    drop(plugin);
}

#[test]
fn a_plugin_of_another_user_shares_a_group_with_the_owner_of_home() {
    a_plugin_lives_in_its_pod(OWNER);
}

#[test]
fn a_plugin_of_another_user_owns_its_directory_when_the_daemon_is_root() {
    a_plugin_lives_in_its_pod(0);
}

#[test]
fn a_plugin_in_a_pod_with_an_address_sends_its_node() {
    let deployed = Deployed::by(OWNER);
    let host = &deployed.host;
    let chosen = "# components:\n#   - components/pod-network\n";
    deployed.change("kustomization.yaml", chosen, "components:\n  - components/pod-network\n");
    let objects = built(&deployed.repository());
    let [here, there] = Node::pair(["10.78.0.1", "10.78.0.2"], &host.cookie);
    let (binary, entry) = (deployed.binary(), entry_point());
    let daemon_pod = here.pod(&objects, "DaemonSet", "hecate-daemon", Image::Scratch(&binary, &entry));
    let mut daemon = Serving::start(&daemon_pod.through());
    assert!(daemon.ready().ends_with("node hecate@10.78.0.1"), "{}", daemon.out.text());

    let plugin_pod = there.pod(&objects, "DaemonSet", TRADER, Image::Machine);
    let words = plugin_pod.through();
    let through: Vec<&str> = words.iter().map(String::as_str).collect();
    let node = "hecate_traderd@10.78.0.2";
    // Each pod has its own EPMD.
    let start = Start { name: Some(node), through: &through, args: &["-start_epmd", "true"], ..Start::default() };
    let mut plugin = Erl::start(host, start);
    let variables = plugin.eval(r#"[os:getenv("HECATE_NODE_NAME"), $@, os:getenv("HECATE_HOSTNAME")] "#);
    assert_eq!(variables, r#"["hecate_traderd",64,"10.78.0.2"]"#);
    plugin.registers_as(host, &json!({"name": TRADER, "node": node}));
    let daemons = text(&host.ask("GET", "/api/cluster").body["node"]).to_owned();
    assert_eq!(plugin.eval(&format!("net_kernel:connect_node('{daemons}')")), "true");
    wait_for("the plugin has its node", || host.plugin(TRADER)["node"] == node);
    host.plugin_until(TRADER, "running");
    plugin.kill();
    let stopped = host.plugin_until(TRADER, "stopped");
    assert!(text(&stopped["reason"]).contains("left the cluster"), "{stopped}");
}

#[test]
fn a_daemon_that_mounts_only_its_own_directory_logs_an_error() {
    let deployed = Deployed::by(OWNER);
    let mut objects = built(&deployed.repository());
    let own = deployed.host.namespace("hecate-daemon");
    let daemon =
        objects.iter_mut().find(|o| o["kind"] == "DaemonSet" && o["metadata"]["name"] == "hecate-daemon").unwrap();
    let spec = &mut daemon["spec"]["template"]["spec"];
    spec["volumes"][0]["hostPath"]["path"] = own.to_str().unwrap().into();
    spec["containers"][0]["volumeMounts"][0]["mountPath"] = own.to_str().unwrap().into();
    let node = Node::new(&deployed.host.name, &deployed.host.cookie);
    let (binary, entry) = (deployed.binary(), entry_point());
    let pod = node.pod(&objects, "DaemonSet", "hecate-daemon", Image::Scratch(&binary, &entry));
    let mut daemon = Serving::start(&pod.through());
    daemon.ready();
    wait_for("the daemon logs the error", || daemon.log.text().contains("cannot create the namespaces of new plugins"));
}

// ---- The image ------------------------------------------------------------------------------

#[test]
fn the_binary_is_static_and_as_large_as_documented() {
    let output =
        Command::new("readelf").args(["--program-headers", "--dynamic", "--wide"]).arg(static_binary()).output();
    let headers = ran(output.expect("install binutils"));
    assert!(!headers.contains("NEEDED") && !headers.contains("INTERP"), "{headers}");
    let size = fs::metadata(static_binary()).unwrap().len();
    let stated = fs::read_to_string(root().join("deploy/Containerfile")).unwrap();
    let stated =
        stated.split(" MB.").next().and_then(|text| text.rsplit(' ').next()?.parse::<f64>().ok()).expect("a size");
    let size = size as f64 / 1e6;
    assert!((size - stated).abs() < 0.5, "the image has {size} MB, but deploy/Containerfile says {stated} MB");
}

#[test]
fn the_containerfile_copies_all_that_the_build_needs() {
    let host = Host::new();
    let text = fs::read_to_string(root().join("deploy/Containerfile")).unwrap();
    for line in text.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from")) {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let (to, from) = words.split_last().unwrap();
        for from in from {
            let place = if to.ends_with('/') { format!("{to}{from}") } else { (*to).to_owned() };
            ran(Command::new("cp").arg("-r").arg(root().join(from)).arg(host.home().join(place)).output().unwrap());
        }
    }
    ran(Command::new("cargo")
        .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version=1"])
        .current_dir(host.home())
        .output()
        .unwrap());
    ran(Command::new("make").args(["--dry-run", "static"]).current_dir(host.home()).output().unwrap());
    for template in text_of_templates() {
        assert!(host.home().join("deploy").join(&template).is_file(), "{template}");
    }
}

/// Returns the files of `deploy/` that are compiled into the binary.
fn text_of_templates() -> Vec<String> {
    let source = fs::read_to_string(root().join("src/cli/gitops/templates.rs")).unwrap();
    let lines = source.lines().filter_map(|line| line.trim().strip_prefix("template!("));
    let found: Vec<String> = lines.map(|line| line.split('"').nth(3).expect("a source").to_owned()).collect();
    assert!(found.len() > 20);
    found
}
