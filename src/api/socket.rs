//! Creates, replaces and removes the file of the API socket.
//!
//! Scripts probe the daemon with `test -S api.sock`, so the file must exist only while the daemon
//! accepts connections. The socket is bound under a draft name, listens, gets its mode, and is then
//! renamed. A socket that another process serves is never replaced, and only our own is removed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::files::{self, Inode, Sight};
use crate::limits;

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path is too long for the system.
    #[error("the socket path {} has {bytes} bytes, and the system allows {max}: choose a shorter home or set HECATE_SOCKET_PATH", path.display(), max = limits::SUN_PATH)]
    TooLong {
        /// The path.
        path: PathBuf,
        /// The length of the path.
        bytes: usize,
    },
    /// The path has no file name or no directory.
    #[error("{} is not a valid path for a socket", .0.display())]
    NoName(PathBuf),
    /// The path belongs to another kind of file.
    #[error("{} exists and is not a socket: move it away, or set HECATE_SOCKET_PATH", .0.display())]
    NotASocket(PathBuf),
    /// Another process serves the socket.
    #[error("another process listens on {}: stop it, or set HECATE_SOCKET_PATH", .0.display())]
    InUse(PathBuf),
    /// A system call failed.
    #[error("cannot {action} the socket {}: {error}; fix this, or set HECATE_SOCKET_PATH", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The verb for the failed operation.
        action: &'static str,
        /// The system's error.
        error: io::Error,
    },
}

/// The file of the socket. Dropping it removes the file if it is still our own.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    mode: u32,
    group: Option<u32>,
    inode: Inode,
    listeners: watch::Sender<Arc<UnixListener>>,
}

/// Accepts connections, also after the socket was replaced by [`SocketFile::rebind`].
#[derive(Debug)]
pub struct Listener {
    listener: Arc<UnixListener>,
    newer: watch::Receiver<Arc<UnixListener>>,
}

impl Listener {
    /// Accepts the next connection.
    ///
    /// # Errors
    /// The system's error.
    pub async fn accept(&mut self) -> io::Result<(UnixStream, SocketAddr)> {
        loop {
            tokio::select! {
                // Clients that connected before the socket was replaced come first.
                biased;
                accepted = self.listener.accept() => return accepted,
                Ok(()) = self.newer.changed() => {
                    let newer = Arc::clone(&self.newer.borrow_and_update());
                    self.listener = newer;
                }
            }
        }
    }

    /// Refuses all further connections, although [`SocketFile`] keeps the descriptor open.
    pub fn close(self) {
        for listener in [&self.listener, &*self.newer.borrow()] {
            // Fails only if it is already closed.
            let _ = rustix::net::shutdown(listener, Shutdown::Both);
        }
    }
}

/// Binds the socket at `path`. Must be called within a tokio runtime.
///
/// # Errors
/// [`BindError`]. No file remains then.
pub fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<(Listener, SocketFile), BindError> {
    let (listener, inode) = bind_by(path, mode, group, |draft, path| fs::rename(draft, path))?;
    let listener = Arc::new(listener);
    let (listeners, newer) = watch::channel(Arc::clone(&listener));
    Ok((Listener { listener, newer }, SocketFile { path: path.to_owned(), mode, group, inode, listeners }))
}

/// Binds a draft and moves it to its path with `rename`.
fn bind_by(
    path: &Path,
    mode: u32,
    group: Option<u32>,
    rename: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> Result<(UnixListener, Inode), BindError> {
    let draft = draft_name(path)?;
    for path in [path, &draft] {
        let bytes = path.as_os_str().as_bytes().len();
        if bytes > limits::SUN_PATH {
            return Err(BindError::TooLong { path: path.to_owned(), bytes });
        }
    }
    refuse_if_taken(path)?;
    // A daemon that was killed before it renamed its draft has left it.
    refuse_if_taken(&draft)?;
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&draft, "remove", error)),
        _ => {}
    }
    let listener = UnixListener::bind(&draft).map_err(|error| io_error(&draft, "bind", error))?;
    // While the queue is full, the kernel admits blocked clients in turn. A client in the queue
    // waits for all clients before it, so the queue is short.
    rustix::net::listen(&listener, limits::HTTP_BACKLOG)
        .map_err(|error| io_error(&draft, "listen on", error.into()))?;
    let placed = place(&draft, path, mode, group, rename);
    if placed.is_err() {
        // If this fails too, the first error is still the one to report.
        let _ = fs::remove_file(&draft);
    }
    Ok((listener, placed?))
}

/// Sets the mode and group of a listening draft, and then renames it.
fn place(
    draft: &Path,
    path: &Path,
    mode: u32,
    group: Option<u32>,
    rename: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> Result<Inode, BindError> {
    if let Some(group) = group {
        let given = std::os::unix::fs::lchown(draft, None, Some(group));
        given.map_err(|error| io_error(draft, "set the group of", error))?;
    }
    let permitted = fs::set_permissions(draft, fs::Permissions::from_mode(mode));
    permitted.map_err(|error| io_error(draft, "set the mode of", error))?;
    let metadata = fs::symlink_metadata(draft).map_err(|error| io_error(draft, "check", error))?;
    rename(draft, path).map_err(|error| io_error(path, "rename the draft of", error))?;
    Ok(Inode::from(&metadata))
}

/// Returns the path of the draft, such as `.api.new` for `api.sock`. It is in the same directory,
/// and the same at each start. It is not longer than a path that ends in `.sock`.
fn draft_name(path: &Path) -> Result<PathBuf, BindError> {
    let no_name = || BindError::NoName(path.to_owned());
    let directory = path.parent().ok_or_else(no_name)?;
    let mut name = OsString::from(".");
    name.push(path.file_stem().ok_or_else(no_name)?);
    name.push(".new");
    Ok(directory.join(name))
}

/// Fails if the path is in use. Only a socket that refuses connections is stale.
fn refuse_if_taken(path: &Path) -> Result<(), BindError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(path, "check", error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    // Non-blocking, because otherwise connecting to a socket with a full queue would wait.
    let connected = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .and_then(|socket| rustix::net::connect(&socket, &SocketAddrUnix::new(path)?));
    match connected {
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(()),
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Err(BindError::InUse(path.to_owned())),
        Err(error) => Err(io_error(path, "connect to", error.into())),
    }
}

impl SocketFile {
    /// Returns the path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the file at the path is our socket. Our socket stays open, so its inode
    /// number is not reused.
    #[must_use]
    pub fn look(&self) -> Sight {
        Sight::at(&self.path, self.inode)
    }

    /// Binds a new socket after ours was removed. Never replaces another file. Accepted connections
    /// are not affected. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`]. No file remains then.
    pub fn rebind(&mut self) -> Result<(), BindError> {
        let (listener, inode) = bind_by(&self.path, self.mode, self.group, files::place)?;
        self.inode = inode;
        self.listeners.send_replace(Arc::new(listener));
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.look() == Sight::Ours
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the API socket: remove it manually");
        }
    }
}

fn io_error(path: &Path, action: &'static str, error: io::Error) -> BindError {
    BindError::Io { path: path.to_owned(), action, error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn entries(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).expect("readable");
        names.map(|entry| entry.expect("entry").file_name().into_string().expect("text")).collect()
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_is_removed_at_the_end() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let (listener, file) = bind(&path, 0o620, None).expect("bound");
        assert_eq!(entries(home.path()), ["api.sock"], "no draft is left");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o620);
        UnixStream::connect(&path).expect("listening");
        drop((file, listener));
        assert!(entries(home.path()).is_empty());
    }

    #[tokio::test]
    async fn a_socket_that_is_served_is_never_replaced() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let (_listener, _file) = bind(&path, 0o600, None).expect("bound");
        let error = bind(&path, 0o600, None).expect_err("taken");
        assert!(matches!(&error, BindError::InUse(at) if *at == path), "{error}");
        UnixStream::connect(&path).expect("the first still listens");
        assert_eq!(entries(home.path()), ["api.sock"]);
    }

    #[tokio::test]
    async fn the_queue_of_unaccepted_connections_is_bounded() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let (_listener, _file) = bind(&path, 0o600, None).expect("bound");
        let connect = || {
            let kind = (AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK);
            let socket = rustix::net::socket_with(kind.0, kind.1, kind.2, None).expect("socket");
            rustix::net::connect(&socket, &SocketAddrUnix::new(&path).expect("short")).map(|()| socket)
        };
        // The kernel admits one more than the length of the queue.
        let most = usize::try_from(limits::HTTP_BACKLOG).expect("positive") + 1;
        let queued: Vec<_> = (0..most).map(|_| connect().expect("a place")).collect();
        assert_eq!(connect().expect_err("full"), rustix::io::Errno::AGAIN);
        drop(queued);
    }

    #[test]
    fn a_socket_with_a_full_queue_is_in_use() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("socket");
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).expect("short")).expect("bound");
        rustix::net::listen(&socket, 0).expect("listening");
        let _queued = UnixStream::connect(&path).expect("the one that fits");
        assert!(matches!(refuse_if_taken(&path), Err(BindError::InUse(_))));
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "std leaves the file behind");
        let (_listener, _file) = bind(&path, 0o600, None).expect("bound");
        UnixStream::connect(&path).expect("ours listens");
    }

    #[tokio::test]
    async fn the_draft_of_a_killed_daemon_is_replaced() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        drop(std::os::unix::net::UnixListener::bind(home.path().join(".api.new")).expect("bound"));
        let (_listener, file) = bind(&path, 0o600, None).expect("bound");
        assert_eq!(entries(home.path()), ["api.sock"]);
        drop(file);
        // A draft that is served belongs to another daemon that starts at this moment.
        let other = std::os::unix::net::UnixListener::bind(home.path().join(".api.new")).expect("bound");
        assert!(matches!(bind(&path, 0o600, None), Err(BindError::InUse(_))));
        drop(other);
        fs::remove_file(home.path().join(".api.new")).expect("there");
        fs::write(home.path().join(".api.new"), "precious").expect("written");
        assert!(matches!(bind(&path, 0o600, None), Err(BindError::NotASocket(_))));
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_kept() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        fs::write(&path, "precious").expect("written");
        assert!(matches!(bind(&path, 0o600, None), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("there"), "precious");

        let link = home.path().join("link.sock");
        std::os::unix::fs::symlink(home.path().join("nowhere"), &link).expect("linked");
        assert!(matches!(bind(&link, 0o600, None), Err(BindError::NotASocket(_))));
    }

    #[tokio::test]
    async fn a_removed_socket_is_bound_again_and_a_foreign_one_is_kept() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let (mut listener, mut file) = bind(&path, 0o620, None).expect("bound");
        assert_eq!(file.look(), Sight::Ours);
        for _ in 0..3 {
            fs::remove_file(&path).expect("there");
            assert_eq!(file.look(), Sight::Missing);
            file.rebind().expect("bound");
            assert_eq!(file.look(), Sight::Ours);
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o620);
            let _client = UnixStream::connect(&path).expect("listening");
            listener.accept().await.expect("by the new socket");
        }
        fs::remove_file(&path).expect("there");
        let _other = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        assert_eq!(file.look(), Sight::Foreign);
        file.rebind().expect_err("in use");
        drop(file);
        assert_eq!(entries(home.path()), ["api.sock"], "the foreign socket");
    }

    #[tokio::test]
    async fn a_file_that_replaced_our_socket_is_kept() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("api.sock");
        let (_listener, file) = bind(&path, 0o600, None).expect("bound");
        // Renamed, not removed, so that the new file cannot get the same inode number.
        fs::rename(&path, home.path().join("old")).expect("moved");
        fs::write(&path, "a successor's").expect("written");
        drop(file);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn the_longest_path_that_the_system_accepts_can_be_bound() {
        let home = tempfile::tempdir().expect("directory");
        let fill = limits::SUN_PATH - home.path().as_os_str().len() - "//api.sock".len();
        let directory = home.path().join("x".repeat(fill));
        fs::create_dir(&directory).expect("made");
        bind(&directory.join("api.sock"), 0o600, None).expect("fits, and its draft too");
        let error = bind(&directory.join("api2.sock"), 0o600, None).expect_err("too long");
        assert!(matches!(error, BindError::TooLong { bytes: 108, .. }), "{error}");
    }

    #[tokio::test]
    async fn an_error_names_the_missing_directory() {
        let home = tempfile::tempdir().expect("directory");
        let error = bind(&home.path().join("no/api.sock"), 0o600, None).expect_err("nowhere");
        assert!(error.to_string().contains("/no/"), "{error}");
    }
}
