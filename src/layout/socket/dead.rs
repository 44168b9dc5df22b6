//! Probes the `api.sock` of plugins, and removes dead ones as [`crate::layout::socket::stale`]
//! decides.
//!
//! A probe opens the file (`O_PATH`, without following links) and connects through that descriptor,
//! so that it checks and connects to the same file. It never waits for the other side: the socket
//! is non-blocking, and no bytes are exchanged.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::files::Inode;
use crate::layout::create::Layout;
use crate::layout::error::{LayoutError, advice};
use crate::layout::open::open_at;
use crate::layout::paths::API_SOCK;
use crate::layout::socket::stale::{Removal, RemovalEffect, RemovalInput, SocketState, Verdict};
use crate::plugin::PluginName;

/// The name of a socket before its last probe. It does not end in `.sock`, so no client uses it.
const ASIDE: &str = ".api.sock.dead";

impl Layout {
    /// Probes the `api.sock` of a plugin once.
    #[must_use]
    pub fn probe_socket(&self, name: &PluginName) -> SocketState {
        let sockets = self.home().namespace(name).sockets();
        match self.sockets(name) {
            Ok(dir) => match probe(&dir, API_SOCK) {
                (SocketState::Denied(why), file) => {
                    SocketState::Denied(denied(&dir, &sockets.join(API_SOCK), file, why))
                }
                (SocketState::Unclear(why), _) => SocketState::Unclear(format!("in {}: {why}", sockets.display())),
                (probe, _) => probe,
            },
            Err(LayoutError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => SocketState::Absent,
            Err(error @ LayoutError::Permission { .. }) => SocketState::Denied(error.to_string()),
            Err(error) => SocketState::Unclear(error.to_string()),
        }
    }
}

/// Returns how the owner of a socket can permit the daemon to connect, or `why` if the file cannot
/// be checked.
fn denied(dir: &OwnedFd, path: &Path, file: Option<OwnedFd>, why: String) -> String {
    match (file.map(fs::fstat), fs::fstat(dir)) {
        (Some(Ok(socket)), Ok(dir)) => {
            format!("cannot connect to {}: permission denied; {}", path.display(), permit(path, &socket, &dir))
        }
        _ => format!("{}: {why}", path.display()),
    }
}

/// Returns the command that lets the group of the directory connect to a socket, which needs write
/// permission.
fn permit(path: &Path, socket: &fs::Stat, dir: &fs::Stat) -> String {
    let path = path.display();
    let is_open = socket.st_mode & 0o020 != 0;
    match (socket.st_gid == dir.st_gid, is_open) {
        (true, true) => format!("add uid {} to group {}", rustix::process::geteuid().as_raw(), dir.st_gid),
        (true, false) => format!("run `chmod 0660 {path}` as uid {}", socket.st_uid),
        (false, _) => {
            format!("run `chgrp {} {path}` and `chmod 0660 {path}` as uid {}", dir.st_gid, socket.st_uid)
        }
    }
}

/// The removal of a plugin's dead `api.sock`, in progress.
#[derive(Debug)]
pub struct DeadSocket {
    dir: OwnedFd,
    removal: Removal,
    /// The file of the last probe. While it is open, its inode number is not reused.
    probed: Option<OwnedFd>,
}

/// The progress of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Continue at this time.
    WaitUntil(Instant),
    /// The removal has ended.
    Done(Verdict),
}

impl DeadSocket {
    /// Prepares a removal. If an interrupted removal has left a socket aside, it is put back first.
    ///
    /// # Errors
    /// `sockets/` cannot be opened, or a socket cannot be put back.
    pub fn new(layout: &Layout, name: &PluginName) -> Result<Self, LayoutError> {
        let dir = layout.sockets(name)?;
        put_back(&dir).map_err(|source| LayoutError::Io {
            doing: "put back",
            path: layout.home().namespace(name).sockets().join(ASIDE),
            source,
        })?;
        Ok(Self { dir, removal: Removal::new(), probed: None })
    }

    /// Continues the removal as far as possible without waiting. There is no wait while the socket
    /// is set aside, so a caller may stop at any wait.
    ///
    /// # Errors
    /// A dead socket could not be removed, or a live one not put back.
    pub fn advance(&mut self, now: Instant) -> io::Result<Progress> {
        let mut effects = Vec::new();
        self.removal.handle(now, RemovalInput::Tick, &mut effects);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let input = match effect {
                RemovalEffect::Probe => RemovalInput::Probed(self.probe(API_SOCK)),
                RemovalEffect::SetAside => RemovalInput::ProbedAside(self.set_aside()),
                RemovalEffect::PutBack => {
                    put_back(&self.dir)?;
                    continue;
                }
                RemovalEffect::Unlink => {
                    fs::unlinkat(&self.dir, ASIDE, AtFlags::empty())?;
                    continue;
                }
                RemovalEffect::Done(verdict) => return Ok(Progress::Done(verdict)),
            };
            let mut more = Vec::new();
            self.removal.handle(now, input, &mut more);
            effects.extend(more);
        }
        Ok(Progress::WaitUntil(self.removal.next_deadline().unwrap_or(now)))
    }

    fn probe(&mut self, name: &str) -> SocketState {
        let (probe, file) = probe(&self.dir, name);
        self.probed = file;
        probe
    }

    fn set_aside(&mut self) -> SocketState {
        match fs::renameat_with(&self.dir, API_SOCK, &self.dir, ASIDE, RenameFlags::NOREPLACE) {
            Ok(()) => self.probe(ASIDE),
            Err(Errno::NOENT) => SocketState::Absent,
            Err(errno) => SocketState::Unclear(format!("cannot rename api.sock: {errno}")),
        }
    }
}

/// Puts a socket back that was set aside. If another one has been bound at its path, no client can
/// find the old one, and it is removed.
fn put_back(dir: &OwnedFd) -> io::Result<()> {
    match fs::renameat_with(dir, ASIDE, dir, API_SOCK, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::EXIST) => Ok(fs::unlinkat(dir, ASIDE, AtFlags::empty())?),
        Err(errno) => Err(errno.into()),
    }
}

/// Probes a socket in a directory. Also returns the open file.
pub(in crate::layout) fn probe(dir: &OwnedFd, name: impl AsRef<Path>) -> (SocketState, Option<OwnedFd>) {
    let name = name.as_ref();
    let file = match open_at(dir.as_fd(), name, OFlags::PATH, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return (SocketState::Absent, None),
        Err(Errno::LOOP) => return (SocketState::NotASocket, None),
        Err(errno) => return (unclear("open", name, errno), None),
    };
    let probe = connect(&file).unwrap_or_else(|errno| unclear("connect to", name, errno));
    (probe, Some(file))
}

fn unclear(doing: &str, name: &Path, errno: Errno) -> SocketState {
    let error = io::Error::from(errno);
    let why = format!("cannot {doing} {}: {error}; {}", name.display(), advice(&error));
    match error.kind() {
        io::ErrorKind::PermissionDenied => SocketState::Denied(why),
        _ => SocketState::Unclear(why),
    }
}

fn connect(file: &OwnedFd) -> rustix::io::Result<SocketState> {
    let stat = fs::fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Ok(SocketState::NotASocket);
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The only way to connect to an open file. This path is short, even if the path of home is
    // long.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::AGAIN) => Ok(SocketState::Alive),
        Err(Errno::CONNREFUSED) => Ok(SocketState::Refuses(Inode::from(&stat))),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;
    use crate::layout::{Home, Modes};
    use crate::limits;
    use crate::plugin::sample;

    struct Scene {
        dir: tempfile::TempDir,
        layout: Layout,
        name: PluginName,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("temporary directory");
            let home = Home::new(dir.path().to_owned()).expect("absolute");
            let layout = Layout::open(home, Modes::default()).expect("opened");
            let name = sample::name("hecate-traderd");
            layout.ensure(&name, None).expect("made");
            Self { dir, layout, name, now: Instant::now() }
        }

        fn path(&self) -> PathBuf {
            self.layout.home().namespace(&self.name).api_sock()
        }

        fn aside(&self) -> PathBuf {
            self.path().with_file_name(ASIDE)
        }

        fn probe(&self) -> SocketState {
            self.layout.probe_socket(&self.name)
        }

        /// Creates a socket that no process listens on.
        fn leave_a_dead_one(&self) {
            // It never listened, because a child process that another test starts could keep a
            // listening one open.
            drop(bind(&self.path()));
        }

        fn removal(&self) -> DeadSocket {
            DeadSocket::new(&self.layout, &self.name).expect("opened")
        }

        /// Makes the first step, after which the removal waits.
        fn begin(&self) -> DeadSocket {
            let mut removal = self.removal();
            let due = self.now + limits::STALE_SOCKET_GAP;
            assert_eq!(removal.advance(self.now).expect("no error"), Progress::WaitUntil(due));
            removal
        }

        fn finish(&self, mut removal: DeadSocket) -> Verdict {
            match removal.advance(self.now + limits::STALE_SOCKET_GAP).expect("no error") {
                Progress::Done(verdict) => verdict,
                Progress::WaitUntil(_) => panic!("it still waits"),
            }
        }

        fn at_once(&self) -> Verdict {
            match self.removal().advance(self.now).expect("no error") {
                Progress::Done(verdict) => verdict,
                Progress::WaitUntil(_) => panic!("it waits"),
            }
        }
    }

    fn bind(path: &Path) -> OwnedFd {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).expect("short")).expect("bound");
        socket
    }

    #[test]
    fn a_dead_socket_is_removed_after_a_second() {
        let scene = Scene::new();
        scene.leave_a_dead_one();
        let removal = scene.begin();
        assert!(scene.path().exists());
        assert_eq!(scene.finish(removal), Verdict::Removed);
        assert!(!scene.path().exists() && !scene.aside().exists());
    }

    #[test]
    fn a_live_socket_is_kept() {
        let scene = Scene::new();
        let _listener = UnixListener::bind(scene.path()).expect("bound");
        assert_eq!(scene.at_once(), Verdict::Alive);
        assert_eq!(scene.probe(), SocketState::Alive);
    }

    #[test]
    fn a_denied_connection_names_the_command_that_permits_it() {
        let scene = Scene::new();
        let _listener = UnixListener::bind(scene.path()).expect("bound");
        let path = scene.path();
        let stat = |mode: u32, group: u32| {
            let mut stat = fs::stat(&path).expect("there");
            (stat.st_mode, stat.st_uid, stat.st_gid) = (mode, 1001, group);
            stat
        };
        let dir = stat(0o040_770, 2000);
        let shown = path.display();
        let table = [
            (stat(0o140_600, 2000), format!("run `chmod 0660 {shown}` as uid 1001")),
            (stat(0o140_600, 1001), format!("run `chgrp 2000 {shown}` and `chmod 0660 {shown}` as uid 1001")),
            (stat(0o140_660, 1001), format!("run `chgrp 2000 {shown}` and `chmod 0660 {shown}` as uid 1001")),
            (stat(0o140_660, 2000), format!("add uid {} to group 2000", rustix::process::geteuid().as_raw())),
        ];
        for (socket, advice) in table {
            assert_eq!(permit(&path, &socket, &dir), advice);
        }
        assert!(matches!(unclear("connect to", &path, Errno::ACCESS), SocketState::Denied(_)));
        assert!(matches!(unclear("connect to", &path, Errno::PERM), SocketState::Denied(_)));
        assert!(matches!(unclear("connect to", &path, Errno::NFILE), SocketState::Unclear(_)));
    }

    #[test]
    fn a_full_backlog_counts_as_an_answer() {
        let scene = Scene::new();
        let listener = bind(&scene.path());
        rustix::net::listen(&listener, 0).expect("listening");
        let mut clients = Vec::new();
        loop {
            let client = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None);
            let client = client.expect("a socket");
            match rustix::net::connect(&client, &SocketAddrUnix::new(scene.path()).expect("short")) {
                Ok(()) => clients.push(client),
                Err(errno) => {
                    assert_eq!(errno, Errno::AGAIN);
                    break;
                }
            }
            assert!(clients.len() < 10_000, "the backlog is never full");
        }
        assert_eq!(scene.probe(), SocketState::Alive);
        assert_eq!(scene.at_once(), Verdict::Alive);
    }

    #[test]
    fn a_socket_that_listens_in_time_is_kept() {
        let scene = Scene::new();
        let listener = bind(&scene.path());
        assert!(matches!(scene.probe(), SocketState::Refuses(_)));
        let removal = scene.begin();
        rustix::net::listen(&listener, 1).expect("listening");
        assert_eq!(scene.finish(removal), Verdict::Alive);
        assert_eq!(scene.probe(), SocketState::Alive);
    }

    #[test]
    fn a_successor_of_a_dead_socket_is_kept() {
        let scene = Scene::new();
        scene.leave_a_dead_one();
        let mut removal = scene.begin();
        std::fs::remove_file(scene.path()).expect("removed");
        // It does not listen yet and refuses like the dead one, so only the inode differs.
        let _successor = bind(&scene.path());
        let later = scene.now + limits::STALE_SOCKET_GAP;
        let again = later + limits::STALE_SOCKET_GAP;
        assert_eq!(removal.advance(later).expect("no error"), Progress::WaitUntil(again));
        assert!(scene.path().exists());
    }

    #[test]
    fn a_live_socket_that_was_set_aside_is_put_back() {
        let scene = Scene::new();
        let listener = UnixListener::bind(scene.path()).expect("bound");
        let mut removal = scene.removal();
        assert_eq!(removal.set_aside(), SocketState::Alive);
        assert!(!scene.path().exists());
        put_back(&removal.dir).expect("put back");
        assert_eq!(scene.probe(), SocketState::Alive);
        drop(listener);
    }

    #[test]
    fn putting_back_does_not_replace_a_successor() {
        let scene = Scene::new();
        scene.leave_a_dead_one();
        let mut removal = scene.removal();
        assert!(matches!(removal.set_aside(), SocketState::Refuses(_)));
        let _successor = UnixListener::bind(scene.path()).expect("bound");
        put_back(&removal.dir).expect("nothing to put back");
        assert_eq!(scene.probe(), SocketState::Alive);
        assert!(!scene.aside().exists());
    }

    #[test]
    fn an_interrupted_removal_is_undone() {
        let scene = Scene::new();
        let _listener = UnixListener::bind(scene.path()).expect("bound");
        std::fs::rename(scene.path(), scene.aside()).expect("set aside");
        assert_eq!(scene.at_once(), Verdict::Alive);
        assert_eq!(scene.probe(), SocketState::Alive);
        assert!(!scene.aside().exists());
    }

    #[test]
    fn other_files_are_never_removed() {
        let scene = Scene::new();
        assert_eq!((scene.probe(), scene.at_once()), (SocketState::Absent, Verdict::Absent));

        std::fs::write(scene.path(), "kept").expect("written");
        assert_eq!((scene.probe(), scene.at_once()), (SocketState::NotASocket, Verdict::NotASocket));
        assert_eq!(std::fs::read_to_string(scene.path()).expect("there"), "kept");
        std::fs::remove_file(scene.path()).expect("removed");

        // Nor is a link to a live socket.
        let elsewhere = scene.dir.path().join("elsewhere.sock");
        let _listener = UnixListener::bind(&elsewhere).expect("bound");
        std::os::unix::fs::symlink(&elsewhere, scene.path()).expect("linked");
        assert_eq!((scene.probe(), scene.at_once()), (SocketState::NotASocket, Verdict::NotASocket));
        assert!(scene.path().is_symlink());
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_not_followed() {
        let scene = Scene::new();
        let sockets = scene.layout.home().namespace(&scene.name).sockets();
        let elsewhere = scene.dir.path().join("elsewhere");
        std::fs::rename(&sockets, &elsewhere).expect("moved");
        std::os::unix::fs::symlink(&elsewhere, &sockets).expect("linked");
        let _listener = UnixListener::bind(scene.path()).expect("bound");
        assert!(matches!(scene.probe(), SocketState::Unclear(_)), "{:?}", scene.probe());
        let refused = DeadSocket::new(&scene.layout, &scene.name);
        assert!(matches!(refused, Err(LayoutError::SymbolicLink(_))), "{refused:?}");
    }

    #[test]
    fn a_missing_namespace_has_no_socket() {
        let scene = Scene::new();
        std::fs::remove_dir_all(scene.layout.home().namespace(&scene.name).base()).expect("removed");
        assert_eq!(scene.probe(), SocketState::Absent);
    }
}
