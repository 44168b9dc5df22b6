//! Looks at the `api.sock` of plugins, and removes dead ones: the hands of [`super::stale_socket`].
//!
//! A look opens the file itself (`O_PATH`, no link followed) and connects to what it opened, so that what is judged and
//! what is connected to are one file. Never blocks on the other side: the connecting socket is non-blocking, and no byte
//! is exchanged.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::create::{Layout, LayoutError, open_at};
use super::paths::API_SOCK;
use super::stale_socket::{Effect, Inode, Input, Look, Removal, Verdict};
use crate::name::PluginName;

/// Where a socket waits for its last look. Not `*.sock`: nobody takes it for one.
const ASIDE: &str = ".api.sock.dead";

impl Layout {
    /// Looks at the `api.sock` of a plugin once.
    #[must_use]
    pub fn look_at_socket(&self, name: &PluginName) -> Look {
        match self.sockets(name) {
            Ok(dir) => look(&dir, API_SOCK).0,
            Err(LayoutError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Look::Absent,
            Err(error) => Look::Unclear(error.to_string()),
        }
    }
}

/// The removal of the dead `api.sock` of one plugin, under way.
#[derive(Debug)]
pub struct DeadSocket {
    dir: OwnedFd,
    removal: Removal,
    /// The file of the last look: while it is open, its inode number is not given to another.
    seen: Option<OwnedFd>,
}

/// How far a removal has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Go on at this time.
    WaitUntil(Instant),
    /// It is decided.
    Done(Verdict),
}

impl DeadSocket {
    /// Begins. A socket that an earlier removal had set aside when it was cut off is put back first, and judged anew.
    ///
    /// # Errors
    /// `sockets/` cannot be opened, or what was set aside cannot be put back.
    pub fn new(layout: &Layout, name: &PluginName) -> Result<Self, LayoutError> {
        let dir = layout.sockets(name)?;
        put_back(&dir).map_err(|source| LayoutError::Io {
            doing: "put back",
            path: layout.home().namespace(name).sockets().join(ASIDE),
            source,
        })?;
        Ok(Self {
            dir,
            removal: Removal::new(),
            seen: None,
        })
    }

    /// Does all that can be done at once. Between setting aside and the end there is no pause, so nothing is left aside
    /// by one who does not call again.
    ///
    /// # Errors
    /// A dead socket could not be unlinked, or a living one not put back.
    pub fn advance(&mut self, now: Instant) -> io::Result<Progress> {
        let mut effects = Vec::new();
        self.removal.handle(now, Input::Tick, &mut effects);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let input = match effect {
                Effect::Look => Input::Looked(self.look(API_SOCK)),
                Effect::SetAside => Input::LookedAside(self.set_aside()),
                Effect::PutBack => {
                    put_back(&self.dir)?;
                    continue;
                }
                Effect::Unlink => {
                    fs::unlinkat(&self.dir, ASIDE, AtFlags::empty())?;
                    continue;
                }
                Effect::Done(verdict) => return Ok(Progress::Done(verdict)),
            };
            let mut more = Vec::new();
            self.removal.handle(now, input, &mut more);
            effects.extend(more);
        }
        Ok(Progress::WaitUntil(self.removal.next_deadline().unwrap_or(now)))
    }

    fn look(&mut self, name: &str) -> Look {
        let (look, file) = look(&self.dir, name);
        self.seen = file;
        look
    }

    fn set_aside(&mut self) -> Look {
        match fs::renameat_with(&self.dir, API_SOCK, &self.dir, ASIDE, RenameFlags::NOREPLACE) {
            Ok(()) => self.look(ASIDE),
            Err(Errno::NOENT) => Look::Absent,
            Err(errno) => Look::Unclear(format!("cannot rename api.sock aside: {errno}")),
        }
    }
}

/// Puts back what was set aside. If another socket has been bound in its place, nobody can find the old one any more.
fn put_back(dir: &OwnedFd) -> io::Result<()> {
    match fs::renameat_with(dir, ASIDE, dir, API_SOCK, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::EXIST) => Ok(fs::unlinkat(dir, ASIDE, AtFlags::empty())?),
        Err(errno) => Err(errno.into()),
    }
}

/// Looks at one file of a directory. The file comes along to be kept open.
fn look(dir: &OwnedFd, name: &str) -> (Look, Option<OwnedFd>) {
    let file = match open_at(dir.as_fd(), Path::new(name), OFlags::PATH, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return (Look::Absent, None),
        Err(Errno::LOOP) => return (Look::NotASocket, None),
        Err(errno) => return (Look::Unclear(format!("cannot open {name}: {errno}")), None),
    };
    let look = connect(&file).unwrap_or_else(|errno| Look::Unclear(format!("cannot connect to {name}: {errno}")));
    (look, Some(file))
}

fn connect(file: &OwnedFd) -> rustix::io::Result<Look> {
    let stat = fs::fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Ok(Look::NotASocket);
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The one way to connect to an open file; it is also short, however deep home lies.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::AGAIN) => Ok(Look::Alive),
        Err(Errno::CONNREFUSED) => Ok(Look::Refuses(Inode {
            device: stat.st_dev,
            number: stat.st_ino,
        })),
        Err(errno) => Err(errno),
    }
}
