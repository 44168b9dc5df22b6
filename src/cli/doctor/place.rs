//! The checks of `doctor` for `HOME`, the cookie, the directories of home, the socket and the lock.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::files::Serving;
use super::nodes::shown;
use super::report::{Level, Report};
use super::{Running, Silence};
use crate::cli::support::client::ClientError;
use crate::config::{self, CookiePlace, Environment, Places, Source, accounts};
use crate::layout::{Found, Home, Layout, Modes, Place, RunError, RunLock};
use crate::limits;
use crate::plugin::PluginName;
use crate::store::Store;
use crate::wire::PluginEntry;

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A home that belongs to another user.
pub(super) struct Owned {
    path: PathBuf,
    owner: u32,
}

/// Returns the home if it belongs to another user. Root may use every home.
pub(super) fn owned_by_other(places: &Places<'_>) -> Option<Owned> {
    let uid = our_uid();
    let owned = match places.locations() {
        Ok(locations) => {
            // A parent directory that denies access belongs to the owner of home, too.
            let metadata = |path: &Path| match fs::metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
                probed => Some((path.to_owned(), probed)),
            };
            let (path, probed) = locations.home.root().ancestors().find_map(metadata)?;
            Owned { owner: probed.ok()?.uid(), path }
        }
        Err(config::Error::HomeNotWritable { path, owner, .. }) => Owned { path, owner },
        Err(_) => return None,
    };
    (uid != 0 && owned.owner != uid).then_some(owned)
}

impl Owned {
    /// Reports the owner. This prevents a start of the daemon by this user, but not its use.
    pub(super) fn report(&self, is_answered: bool, report: &mut Report) {
        let (path, owner) = (self.path.display(), self.owner);
        let user = accounts::user_name(owner).map(|name| format!(" ({name})")).unwrap_or_default();
        let detail = format!(
            "{path} belongs to uid {owner}{user}, but this command runs as uid {}, so its files, cookie and node name are \
             not checked",
            our_uid()
        );
        let advice = format!("run `hecate-daemon doctor` as uid {owner}");
        match is_answered {
            true => report.warn("home", detail, advice),
            false => report.fail("home", detail, advice),
        }
    }
}

/// Reports a database that the daemon would refuse at its start.
pub(super) fn database(home: &Home, report: &mut Report) {
    if let Err(error) = Store::check_version(&home.own().sqlite()) {
        report.add(Level::Fail, "database", error.to_string());
    }
}

/// Checks `HOME`, which is the place of `~/.hecate` and of the cookie.
pub(super) fn home_variable(environment: &Environment, report: &mut Report) {
    let Some(home) = environment.variables.get("HOME").map(PathBuf::from) else {
        return;
    };
    // The settings that need a missing home report it.
    let Ok(metadata) = fs::metadata(&home) else {
        return;
    };
    let (home, owner, uid) = (home.display(), metadata.uid(), our_uid());
    if owner != uid {
        let detail = format!("HOME is {home}, which belongs to uid {owner}, but this process has uid {uid}");
        return report.warn("HOME", detail, "set it to the home directory of this user");
    }
    // Skipped if /etc/passwd does not have the account.
    match accounts::home_of(uid).ok().flatten() {
        Some(account) if Path::new(&account) != Path::new(&home.to_string()) => {
            let detail = format!("HOME is {home}, but the account's home is {account}");
            report.warn("HOME", detail, "set the same HOME, or HECATE_HOME, for all programs that use ~/.hecate");
        }
        _ => report.ok("HOME", format!("{home}")),
    }
}

/// Reports the place of the cookie. The check of the settings has found it readable and private.
/// `hash` is the hash of the running daemon's cookie. The file may have vanished or changed since
/// the daemon started.
pub(super) fn cookie(places: &Places<'_>, hash: Option<&str>, report: &mut Report) {
    let (Ok(place), Ok(cookie)) = (places.cookie_place(), places.existing_cookie()) else {
        return;
    };
    let now = cookie.map(|cookie| cookie.hash());
    if let Some(hash) = hash.filter(|hash| now.as_deref() != Some(*hash)) {
        return other_cookie(&place, now.as_deref(), hash, report);
    }
    let mode = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.mode() & 0o7777);
    match place {
        CookiePlace::Given(Source::File { path, .. }) if mode(&path) & 0o077 != 0 => {
            let detail = format!("{} contains the cookie, but has mode {:04o}", path.display(), mode(&path));
            report.warn("cookie", detail, format!("chmod 600 {}", path.display()));
        }
        CookiePlace::Given(source) => report.ok("cookie", format!("set by {source}")),
        CookiePlace::File(path) => {
            report.ok("cookie", format!("in {}, mode {:04o}", path.display(), mode(&path)));
        }
        CookiePlace::ToBeCreated(path) => {
            report.ok("cookie", format!("none yet; the daemon or an `erl` creates {} at its start", path.display()));
        }
    }
}

/// Reports that the running daemon has another cookie than a node that starts now.
fn other_cookie(place: &CookiePlace, now: Option<&str>, hash: &str, report: &mut Report) {
    let now = now.unwrap_or_default();
    match place {
        CookiePlace::ToBeCreated(path) => {
            let path = path.display();
            let detail = format!("{path} was removed, but the running daemon still uses its cookie (hash {hash})");
            let advice = "restore the file, or restart the daemon and then all nodes to use a new cookie";
            report.fail("cookie", detail, advice);
        }
        CookiePlace::File(path) => {
            let path = path.display();
            let detail = format!("{path} has changed: its cookie has the hash {now}, the running daemon's has {hash}");
            report.fail("cookie", detail, "restart the daemon, or restore the old file");
        }
        CookiePlace::Given(source) => {
            let detail = format!("the cookie set by {source} has the hash {now}, the running daemon's has {hash}");
            report.fail(
                "cookie",
                detail,
                "restart the daemon with this setting, or run this command with the daemon's settings",
            );
        }
    }
}

/// Checks that home and its namespaces are directories of this user that others cannot write.
pub(super) fn home(home: &Home, report: &mut Report) {
    let places = home.inspect();
    let before = report.findings.len();
    for place in &places {
        one_place(place, report);
    }
    let root = home.root();
    let exists = places.iter().any(|place| place.path == root && place.found != Found::Nothing);
    if !exists && let Some(above) = root.ancestors().skip(1).find(|path| path.exists()) {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        match rustix::fs::access(above, access) {
            Ok(()) => report.ok("home", format!("{} does not exist yet; the daemon creates it", root.display())),
            Err(errno) => {
                let detail =
                    format!("{} does not exist, and cannot be created in {}: {errno}", root.display(), above.display());
                report.fail("home", detail, "create it and chown it to this user, or set HECATE_HOME");
            }
        }
    } else if report.findings.len() == before {
        let there = places.iter().filter(|place| place.found != Found::Nothing).count();
        report.ok("home", format!("{}: {there} directories, all correct", root.display()));
    }
}

fn one_place(Place { path, found }: &Place, report: &mut Report) {
    let (shown, uid) = (path.display(), our_uid());
    match found {
        Found::Nothing => {}
        Found::SymbolicLink => {
            let detail = format!("{shown} is a symbolic link, which the daemon does not follow");
            report.fail("home", detail, "replace it with a directory or a mount");
        }
        Found::SomethingElse => {
            report.fail(
                "home",
                format!("{shown} is not a directory"),
                "move it away; the daemon needs a directory there",
            );
        }
        Found::Unclear(why) => {
            let detail = format!("{shown} cannot be examined: {why}");
            report.fail(
                "home",
                detail,
                format!("give uid {uid} access to its parent directories, or run as their owner"),
            );
        }
        Found::Directory { uid: owner, .. } if *owner != uid && uid != 0 => {
            let detail = format!("{shown} belongs to uid {owner}, but this process has uid {uid}");
            report.fail("home", detail, format!("chown -R {uid} {shown}, or run as uid {owner}"));
        }
        Found::Directory { mode, .. } if mode & 0o700 != 0o700 => {
            let detail = format!("{shown} has mode {mode:04o}, so its owner cannot use it");
            report.fail("home", detail, format!("chmod u+rwx {shown}"));
        }
        Found::Directory { mode, .. } if mode & 0o002 != 0 => {
            let detail = format!("{shown} has mode {mode:04o}, so every user of this host can create a socket there");
            report.warn("home", detail, format!("chmod o-w {shown}"));
        }
        Found::Directory { .. } => {}
    }
}

/// Reports the directories of registered plugins that are missing. A plugin of another home is
/// ignored.
pub(super) fn directories(home: &Home, plugins: &[PluginEntry], report: &mut Report) {
    let incomplete = plugins.iter().filter_map(|plugin| {
        let namespace = home.namespace(&PluginName::parse(&plugin.name).ok()?);
        let missing = namespace.missing().into_iter().next()?;
        (namespace.api_sock() == Path::new(&plugin.socket)).then(|| (&plugin.name, missing.display().to_string()))
    });
    let (names, missing): (Vec<_>, Vec<_>) = incomplete.unzip();
    let Some(first) = names.first() else { return };
    let (detail, advice) = match names.len() {
        1 => (
            format!("a directory of a registered plugin is missing: {}", shown(&missing)),
            format!("create it with `hecate-daemon register {first}`"),
        ),
        count => (
            format!("directories of {count} registered plugins are missing: {}", shown(&missing)),
            format!("create them with `hecate-daemon register {first}`, and the same for each other plugin"),
        ),
    };
    report.fail("directories", detail, advice);
}

/// Checks that a daemon answers, and returns its answers. Otherwise reports why, unless the check
/// of the files has.
pub(super) async fn socket(socket: &Path, serving: Option<Serving>, report: &mut Report) -> Option<Running> {
    if serving.is_some_and(|serving| serving.is_unreachable) {
        return None;
    }
    let shown = socket.display();
    let bytes = socket.as_os_str().len();
    if bytes > limits::SUN_PATH {
        let detail = format!("the path {shown} has {bytes} bytes, which exceeds the limit of {}", limits::SUN_PATH);
        report.fail("socket", detail, "choose a shorter home, or set HECATE_SOCKET_PATH");
        return None;
    }
    match fs::symlink_metadata(socket) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            report.fail("socket", format!("{shown} is not a socket"), "move it away, or set HECATE_SOCKET_PATH");
            return None;
        }
        _ => {}
    }
    match Running::ask(socket).await {
        Ok(running) => {
            report.ok("socket", format!("a daemon answers at {shown}"));
            return Some(running);
        }
        Err(Silence::Forbidden) => {
            let detail = format!("the daemon answers at {shown}, and does not allow this user (uid {})", our_uid());
            report.fail("socket", detail, "run this as the daemon's user, or add this uid to its HECATE_ALLOWED_UIDS");
        }
        // The error includes what to do.
        Err(Silence::Unreached(error @ ClientError::Denied(_))) => {
            report.add(Level::Fail, "socket", error.to_string());
        }
        Err(Silence::Refuses(why)) => {
            report.fail("socket", format!("the daemon at {shown} refuses: {why}"), "run this as the user of the daemon")
        }
        Err(Silence::Unreached(ClientError::NoDaemon { error, .. })) => match (error.kind(), serving) {
            (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, Some(Serving { pid, .. })) => {
                let detail = format!("process {pid} serves this home, but does not answer at {shown} yet");
                report.warn(
                    "socket",
                    detail,
                    "run this again in a few seconds; if it still does not answer, see its log",
                );
            }
            (io::ErrorKind::NotFound, None) => {
                report.warn(
                    "socket",
                    format!("no daemon runs: {shown} does not exist"),
                    "start one with `hecate-daemon`",
                );
            }
            (io::ErrorKind::ConnectionRefused, None) => {
                let detail = format!("no daemon runs: {shown} is left from one that crashed");
                report.warn("socket", detail, "start one with `hecate-daemon`, which replaces it");
            }
            _ => report.fail(
                "socket",
                format!("{shown} cannot be reached: {error}"),
                "run this as the user of the daemon",
            ),
        },
        Err(Silence::Unreached(error @ ClientError::Busy(_))) => {
            report.fail("socket", error.to_string(), "find the processes that open connections: `ss -xp`");
        }
        Err(Silence::Unreached(error)) => {
            report.fail("socket", error.to_string(), "stop that process, or wait if it has just started");
        }
    }
    None
}

/// Reports a process that holds the home but is not in `/proc`, or a daemon that crashed. Takes the
/// lock for a moment, so it must not be called while a daemon runs.
pub(super) fn lock(home: &Home, report: &mut Report) {
    if !home.own().run().exists() {
        return;
    }
    let Ok(layout) = Layout::open(home.clone(), Modes::default()) else {
        return;
    };
    match RunLock::acquire(&layout) {
        Ok(lock) => match lock.pid() {
            Some(pid) => {
                let detail = format!("daemon.pid names process {pid}, which crashed");
                report.warn(
                    "lock",
                    detail,
                    "start `hecate-daemon`, which removes the file; see the old log for the cause",
                );
            }
            None => report.ok("lock", format!("no process holds {}", home.own().run().display())),
        },
        Err(RunError::Held { home, pid }) => {
            let who = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            let detail = format!("{who} serves {}, but does not answer at the socket", home.display());
            report.fail("lock", detail, "set HECATE_SOCKET_PATH if it serves another socket, or stop it");
        }
        Err(error) => report.fail("lock", error.to_string(), "chown the directory to the user of the daemon"),
    }
}
