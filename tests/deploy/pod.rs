//! Runs a pod from its manifest, as a kubelet would: with its mounts, user, groups, capabilities
//! and environment. `unshare`, `mount` and `capsh` replace the container runtime. They create mount
//! and pid namespaces, and a read-only root that holds only the image, `/proc`, three devices and
//! `/etc/hosts`. Seccomp and resource limits are not applied.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{self, Process, wait_for};

/// A network namespace: the host network, which pods share, or the network of a pod with an
/// address.
pub struct Node {
    holder: Process,
    directory: tempfile::TempDir,
    /// The value in each Secret.
    secret: String,
    /// The host's name.
    name: String,
}

/// The content of a pod's root file system, besides its mounts.
#[derive(Clone, Copy)]
pub enum Image<'a> {
    /// One static program and the path of the entry point where it is mounted.
    Scratch(&'a Path, &'a str),
    /// The programs of this machine.
    Machine,
}

/// A pod in which commands can be started.
pub struct Pod {
    script: String,
    enter: Vec<String>,
    network: String,
}

impl Node {
    pub fn new(name: &str, secret: &str) -> Self {
        let mut hold = Command::new("unshare");
        hold.args(["--net", "sh", "-c", "ip link set lo up && exec sleep infinity"]);
        let holder = Process::start(&mut hold, "Install util-linux");
        let sleeps = format!("/proc/{}/comm", holder.id());
        wait_for("the network namespace exists", || {
            std::fs::read_to_string(&sleeps).is_ok_and(|comm| comm == "sleep\n")
        });
        let directory = tempfile::Builder::new().prefix("n").tempdir_in("/tmp").unwrap();
        let hosts = format!("127.0.0.1 localhost\n127.0.0.1 {name}\n");
        std::fs::write(directory.path().join("hosts"), hosts).unwrap();
        Self { holder, directory, secret: secret.to_owned(), name: name.to_owned() }
    }

    /// Creates two connected networks, each named by its address.
    pub fn pair(addresses: [&str; 2], secret: &str) -> [Self; 2] {
        let both = addresses.map(|address| Self::new(address, secret));
        let [a, b] = &both;
        a.ip(&format!("link add us type veth peer name us netns {}", b.holder.id()));
        for node in &both {
            node.ip(&format!("address add {}/24 dev us", node.name));
            node.ip("link set us up");
        }
        both
    }

    fn ip(&self, arguments: &str) {
        let mut ip = Command::new("nsenter");
        let status = ip.arg(self.network()).arg("ip").args(arguments.split(' ')).status();
        assert!(status.expect("install iproute2").success(), "ip {arguments}");
    }

    /// Returns the option of `nsenter` that enters the network.
    pub fn network(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.holder.id())
    }

    /// Returns the pod of a DaemonSet or Deployment. `all` has the objects that it refers to.
    pub fn pod(&self, all: &[Value], kind: &str, name: &str, image: Image<'_>) -> Pod {
        let spec = &object(all, kind, name)["spec"]["template"]["spec"];
        let containers = spec["containers"].as_array().expect("containers");
        assert_eq!(containers.len(), 1, "{name}: one container");
        let container = &containers[0];
        let root = self.directory.path().join(name);
        std::fs::create_dir_all(&root).unwrap();
        let enter = self.enter(all, spec, container, &root, image);
        let script = self.script(spec, container, &root, image);
        Pod { script, enter, network: self.network() }
    }

    /// Returns the shell script that mounts the root.
    fn script(&self, spec: &Value, container: &Value, root: &Path, image: Image<'_>) -> String {
        let root = root.display();
        let mut lines = vec![format!("mount --bind {root} {root}; cd {root}; mkdir -p proc dev etc")];
        match image {
            Image::Scratch(program, entry) => {
                lines.push(format!("touch .{entry}; mount --bind {} .{entry}", program.display()));
                lines.push("touch etc/hosts".to_owned());
            }
            Image::Machine => {
                lines.push("mkdir -p usr; mount --bind /usr usr; mount --bind /etc etc".to_owned());
                lines.push("for link in bin lib lib64 sbin; do ln -sfn usr/$link $link; done".to_owned());
            }
        }
        lines.push(format!("mount --bind {}/hosts etc/hosts", self.directory.path().display()));
        lines.push("mount -t proc proc proc".to_owned());
        lines.push(
            "for device in null zero urandom; do touch dev/$device; mount --bind /dev/$device dev/$device; done"
                .to_owned(),
        );
        // Parent directories first, as container runtimes do.
        let mut mounts: Vec<&Value> = container["volumeMounts"].as_array().into_iter().flatten().collect();
        mounts.sort_by_key(|mount| text(&mount["mountPath"]));
        for mount in mounts {
            let path = text(&mount["mountPath"]);
            let volumes = spec["volumes"].as_array().expect("volumes");
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("a volume of that name");
            // The runtime creates missing mount points as root.
            lines.push(format!("mkdir -p .{path}"));
            if volume["emptyDir"].is_object() {
                lines.push(format!("mount -t tmpfs -o mode=1777 tmpfs .{path}"));
                continue;
            }
            assert_eq!(volume["hostPath"]["type"], "Directory", "the kubelet must not create directories");
            let source = text(&volume["hostPath"]["path"]);
            lines.push(format!("[ -d {source} ] || {{ echo '{source} is not a directory' >&2; exit 1; }}"));
            lines.push(format!("mount --bind {source} .{path}"));
            if mount["readOnly"] == true {
                lines.push(format!("mount -o remount,bind,ro .{path}"));
            }
        }
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        lines.push(format!("mount -o remount,bind,ro {root}"));
        lines.push("exec \"$@\"".to_owned());
        lines.join("\n")
    }

    /// Returns the words before a command in the pod that set its environment, root, user and
    /// capabilities.
    fn enter(&self, all: &[Value], spec: &Value, container: &Value, root: &Path, image: Image<'_>) -> Vec<String> {
        let mut words = vec!["env".to_owned(), "-i".to_owned()];
        words.extend(self.environment(all, container));
        if let Image::Machine = image {
            words.push("PATH=/usr/bin:/bin".to_owned());
        }
        let pod = &spec["securityContext"];
        let own = &container["securityContext"];
        assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(own["allowPrivilegeEscalation"], false);
        assert_eq!(own["capabilities"]["drop"], serde_json::json!(["ALL"]));
        let (user, group) = (number(&pod["runAsUser"]), number(&pod["runAsGroup"]));
        assert_eq!(pod["runAsNonRoot"], user != 0, "the kubelet enforces runAsNonRoot");
        let groups: Vec<String> =
            pod["supplementalGroups"].as_array().into_iter().flatten().map(Value::to_string).collect();
        let groups = if groups.is_empty() { group.to_string() } else { groups.join(",") };
        let program = match image {
            Image::Scratch(_, entry) => entry,
            Image::Machine => "/usr/bin/env",
        };
        words.extend([
            program_path("capsh"),
            format!("--chroot={}", root.display()),
            format!("--drop={}", dropped(&own["capabilities"]["add"])),
            "--no-new-privs".to_owned(),
            format!("--gid={group}"),
            format!("--groups={groups}"),
            format!("--uid={user}"),
            format!("--shell={program}"),
            "--".to_owned(),
        ]);
        words
    }

    fn environment(&self, all: &[Value], container: &Value) -> Vec<String> {
        let mut variables = Vec::new();
        for from in container["envFrom"].as_array().into_iter().flatten() {
            let map = object(all, "ConfigMap", text(&from["configMapRef"]["name"]));
            for (key, value) in map["data"].as_object().expect("data") {
                variables.push(format!("{key}={}", text(value)));
            }
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let value = match (&variable["value"], &variable["valueFrom"]) {
                (Value::String(value), _) => value.clone(),
                (_, from) if from["secretKeyRef"].is_object() => self.secret.clone(),
                (_, from) if from["fieldRef"]["fieldPath"] == "status.podIP" => self.name.clone(),
                other => panic!("{other:?}"),
            };
            variables.push(format!("{}={value}", text(&variable["name"])));
        }
        variables
    }
}

impl Pod {
    /// Returns the words before the container's command that start it in the pod.
    pub fn through(&self) -> Vec<String> {
        let unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"];
        let mut words = vec!["nsenter".to_owned(), self.network.clone()];
        words.extend(unshare.map(str::to_owned));
        words.extend(["sh", "-euc", &self.script, "sh"].map(str::to_owned));
        words.extend(self.enter.clone());
        words
    }

    /// Runs a command in a running pod, as `kubectl exec` and probes do. `starter` is the pid of
    /// the process that started the pod.
    pub fn exec(&self, starter: u32, command: &[&str]) -> Output {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(
            [&self.network, &format!("--target={}", inside(starter)), "--mount", "--pid"].map(AsRef::<str>::as_ref),
        );
        // `enter` already ends with the entry point, so only the arguments follow.
        let entry = self.enter.iter().find_map(|word| word.strip_prefix("--shell=")).expect("an entry point");
        let arguments = command.strip_prefix(&[entry]).unwrap_or(command);
        assert!(arguments.len() < command.len() || entry == "/usr/bin/env", "{command:?} is not in the image");
        nsenter.args(&self.enter).args(arguments).stdin(Stdio::null()).output().expect("install util-linux")
    }
}

/// Waits for the first process of a pod. Returns its pid in this pid namespace.
pub fn inside(starter: u32) -> u32 {
    support::wait_within(support::PATIENCE, "the pod has a process", || first(starter))
}

/// Returns the pid of the first process of a pod, if it runs.
pub fn first(starter: u32) -> Option<u32> {
    std::fs::read_to_string(format!("/proc/{starter}/task/{starter}/children")).ok()?.trim().parse().ok()
}

/// Kills all processes of a pod. A process that has changed its user does not end with its parent.
pub fn end(starter: u32) {
    if let Some(first) = first(starter) {
        kill(first);
    }
}

/// Kills a process. If it is the first of a pid namespace, the others there end too.
pub fn kill(pid: u32) {
    if let Some(pid) = pid.try_into().ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

pub fn object<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = all.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not text"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

fn program_path(name: &str) -> String {
    let places = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin"), PathBuf::from("/usr/bin")];
    let found = places.iter().map(|place| place.join(name)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed: install libcap2-bin")).to_str().unwrap().to_owned()
}

/// Returns the capabilities to drop: all of this kernel except `added`.
fn dropped(added: &Value) -> String {
    let output = Command::new(program_path("capsh")).arg("--print").output().expect("capsh runs");
    let printed = String::from_utf8(output.stdout).unwrap();
    let all = printed.lines().find_map(|line| line.strip_prefix("Bounding set =")).expect("a set");
    let added: Vec<String> =
        added.as_array().into_iter().flatten().map(|name| format!("cap_{}", text(name).to_lowercase())).collect();
    all.split(',').filter(|name| !added.iter().any(|other| other == name)).collect::<Vec<_>>().join(",")
}
