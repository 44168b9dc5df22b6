//! The Git repository `HOME/gitops`. Each change is one commit. This module refuses a repository of
//! another user, one with other content, and one with uncommitted changes. It does not interpret
//! files.
//!
//! It runs the `git` command, which operators need anyway. The library gix would add 200 crates,
//! and lacks `rm` and `status` with ignore rules. Git runs without hooks, without configuration
//! except the repository's own, and without variables such as `GIT_DIR`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{self, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::limits;

/// The directory below home.
const NAME: &str = "gitops";
/// The branch that Flux watches.
const BRANCH: &str = "main";
/// A repository without this file in its last commit is not one of this program.
const OURS: &str = "hecate-daemon/kustomization.yaml";

/// Why the repository cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum RepositoryError {
    #[error("{} is a symbolic link or a file; move it away", .0.display())]
    NotADirectory(PathBuf),
    #[error("{} belongs to uid {owner}, but this process has uid {uid}; run it as the owner", path.display())]
    OtherOwner { path: PathBuf, owner: u32, uid: u32 },
    #[error(
        "{} contains {what}; move it away, then run `hecate-daemon gitops init`",
        path.display()
    )]
    Foreign { path: PathBuf, what: &'static str },
    #[error("no repository at {}; create it with `hecate-daemon gitops init`", .0.display())]
    Missing(PathBuf),
    #[error("{} is on branch {branch}, but {BRANCH} is deployed; run `git -C {} switch {BRANCH}`", path.display(), path.display())]
    OtherBranch { path: PathBuf, branch: String },
    #[error(
        "{} has uncommitted changes ({changes}); commit or discard them (see `git -C {} status`)",
        path.display(), path.display()
    )]
    Dirty { path: PathBuf, changes: String },
    #[error("another command is using {}; wait until it ends", .0.display())]
    Busy(PathBuf),
    #[error("cannot run git ({0}); install it, or add it to PATH")]
    NoGit(io::Error),
    #[error("`git {command}` failed: {said}")]
    Git { command: String, said: String },
    #[error("cannot {doing} {}: {source}; nothing was committed; see `git -C {} status`", path.display(), root.display())]
    Io { doing: &'static str, path: PathBuf, root: PathBuf, source: io::Error },
}

type Result<T> = std::result::Result<T, RepositoryError>;

/// The repository, locked against other processes of this program while this exists.
#[derive(Debug)]
pub(super) struct Repository {
    path: PathBuf,
    directory: OwnedFd,
    /// Whether there is a commit yet.
    has_commit: bool,
}

impl Repository {
    /// Opens a repository without uncommitted changes.
    pub(super) fn open(home: &Path) -> Result<Self> {
        let found = Self::find(home)?.filter(|repository| repository.has_commit);
        let repository = found.ok_or_else(|| RepositoryError::Missing(home.join(NAME)))?;
        repository.ensure_clean()?;
        Ok(repository)
    }

    /// Opens a repository without uncommitted changes, or creates a missing one.
    pub(super) fn open_or_init(home: &Path) -> Result<Self> {
        if let Some(repository) = Self::find(home)? {
            repository.ensure_clean()?;
            return Ok(repository);
        }
        let path = home.join(NAME);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("create", &path, &path, error));
            }
            _ => {}
        }
        let repository = Self::at(path)?;
        repository.git(&["init", "--quiet", "--template=", "--initial-branch", BRANCH])?;
        Ok(repository)
    }

    /// Opens a repository for reading, even with uncommitted changes.
    pub(super) fn open_to_read(home: &Path) -> Result<Self> {
        let found = Self::find(home)?.filter(|repository| repository.has_commit);
        found.ok_or_else(|| RepositoryError::Missing(home.join(NAME)))
    }

    /// Returns `None` if the directory is missing or empty.
    fn find(home: &Path) -> Result<Option<Self>> {
        let path = home.join(NAME);
        let metadata = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(|error| io_error("examine", &path, &path, error))?,
        };
        if !metadata.is_dir() {
            return Err(RepositoryError::NotADirectory(path));
        }
        let mut repository = Self::at(path)?;
        let path = &repository.path;
        let foreign = |what| RepositoryError::Foreign { path: path.clone(), what };
        match std::fs::symlink_metadata(path.join(".git")) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(foreign("a part of another repository")),
            Err(_) if repository.entries()?.is_empty() => return Ok(None),
            Err(_) => return Err(foreign("files outside of any repository")),
        }
        if repository.git(&["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]).is_ok() {
            repository.git(&["cat-file", "-e", &format!("HEAD:{OURS}")]).map_err(|_| foreign("another repository"))?;
            repository.has_commit = true;
        } else if repository.entries()?.iter().any(|entry| entry != ".git") {
            return Err(foreign("uncommitted files in a new repository"));
        }
        let branch = repository.git(&["symbolic-ref", "--quiet", "--short", "HEAD"]).unwrap_or_default();
        if branch.trim() != BRANCH {
            let branch = if branch.is_empty() { "none" } else { branch.trim() }.to_owned();
            return Err(RepositoryError::OtherBranch { path: path.clone(), branch });
        }
        Ok(Some(repository))
    }

    /// Opens and locks an existing directory.
    fn at(path: PathBuf) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened =
            fs::open(&path, flags, Mode::empty()).and_then(|directory| Ok((fs::fstat(&directory)?, directory)));
        let (stat, directory) = opened.map_err(|errno| io_error("open", &path, &path, errno.into()))?;
        // Git runs programs that the configuration of a repository names.
        ensure_ours(&path, stat.st_uid)?;
        match fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, directory, has_commit: false }),
            Err(Errno::WOULDBLOCK) => Err(RepositoryError::Busy(path)),
            Err(errno) => Err(io_error("lock", &path, &path, errno.into())),
        }
    }

    fn entries(&self) -> Result<Vec<std::ffi::OsString>> {
        let read =
            std::fs::read_dir(&self.path).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        read.map_err(|error| io_error("read", &self.path, &self.path, error))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the paths with uncommitted changes.
    pub(super) fn changes(&self) -> Result<Vec<String>> {
        let listed = self.git(&["status", "--porcelain", "--untracked-files=all"])?;
        Ok(listed.lines().map(|line| line.get(3..).unwrap_or(line).to_owned()).collect())
    }

    fn ensure_clean(&self) -> Result<()> {
        self.refuse_changes(self.changes()?)
    }

    fn refuse_changes(&self, changes: Vec<String>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let few: Vec<&str> = changes.iter().take(3).map(String::as_str).collect();
        let more = if changes.len() > few.len() { ", …" } else { "" };
        Err(RepositoryError::Dirty { path: self.path.clone(), changes: format!("{}{more}", few.join(", ")) })
    }

    /// Returns the committed directories in the root.
    pub(super) fn directories(&self) -> Result<Vec<String>> {
        let listed = self.git(&["ls-tree", "-d", "-z", "--name-only", "HEAD"])?;
        Ok(listed.split_terminator('\0').map(str::to_owned).collect())
    }

    /// Refuses existing files that are in no commit. Ignore rules of the repository hide them from
    /// [`changes`](Self::changes).
    pub(super) fn ensure_tracked(&self, paths: &[String]) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let list = ["ls-files", "--others", "--"].into_iter().chain(paths.iter().map(String::as_str));
        let listed = self.git(&list.collect::<Vec<_>>())?;
        self.refuse_changes(listed.lines().map(str::to_owned).collect())
    }

    /// Returns the text of a file, or `None` if it does not exist.
    pub(super) fn read(&self, path: &str) -> Result<Option<String>> {
        let failed = |error| io_error("read", &self.path.join(path), &self.path, error);
        let file = match self.open_file(path, OFlags::RDONLY) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(|errno| failed(errno.into()))?,
        };
        let mut text = String::new();
        let read = file.take(limits::GITOPS_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if u64::try_from(read).unwrap_or(u64::MAX) > limits::GITOPS_FILE {
            return Err(failed(io::Error::other(format!("it exceeds the {}-byte limit", limits::GITOPS_FILE))));
        }
        Ok(Some(text))
    }

    /// Writes a file, and creates its directories.
    pub(super) fn write(&self, path: &str, text: &str) -> Result<()> {
        let failed = |doing, error| io_error(doing, &self.path.join(path), &self.path, error);
        for (at, _) in path.match_indices('/') {
            let directory = path.get(..at).unwrap_or_default();
            match fs::mkdirat(&self.directory, directory, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed("create the directory of", errno.into())),
            }
        }
        let opened = self.open_file(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC);
        let mut file = opened.map_err(|errno| failed("open", errno.into()))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| failed("write", error))
    }

    /// Follows no symbolic links, because the files may come from others.
    fn open_file(&self, path: &str, flags: OFlags) -> rustix::io::Result<File> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
        // Does not wait for the other end of a pipe.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(fs::openat2(self.directory.as_fd(), path, flags, mode, resolve)?))
    }

    /// Removes a directory with its committed files.
    pub(super) fn remove(&self, directory: &str) -> Result<()> {
        self.git(&["rm", "-r", "--quiet", "--", directory]).map(drop)
    }

    /// Commits the paths. Returns the id of the commit, or `None` if nothing has changed.
    pub(super) fn commit(&self, message: &str, paths: &[String]) -> Result<Option<String>> {
        if !paths.is_empty() {
            // Ignore rules do not apply to files of this program.
            let add = ["add", "--force", "--"].into_iter().chain(paths.iter().map(String::as_str));
            self.git(&add.collect::<Vec<_>>())?;
        }
        if self.git(&["diff", "--cached", "--quiet"]).is_ok() && self.has_commit {
            return Ok(None);
        }
        self.git(&["commit", "--quiet", "--no-verify", "--message", message])?;
        Ok(Some(self.head()?))
    }

    /// Returns the short id of the last commit.
    pub(super) fn head(&self) -> Result<String> {
        Ok(self.git(&["rev-parse", "--short", "HEAD"])?.trim().to_owned())
    }

    fn git(&self, arguments: &[&str]) -> Result<String> {
        let output = command(&self.path, arguments).output().map_err(RepositoryError::NoGit)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let said = if said.is_empty() { output.status.to_string() } else { said };
            return Err(RepositoryError::Git {
                command: arguments.first().copied().unwrap_or_default().to_owned(),
                said,
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Returns the command for git, without the configuration of the user and the system.
fn command(path: &Path, arguments: &[&str]) -> Command {
    const NOTHING: &str = "/dev/null";
    const OFF: [&str; 6] = [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.excludesFile=/dev/null",
        "core.attributesFile=/dev/null",
        "core.quotePath=false",
        "commit.gpgSign=false",
    ];
    let mut git = Command::new("git");
    git.env_clear().current_dir(path);
    git.envs(["PATH", "TMPDIR"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    // The user may not have configured a name.
    let who = [("NAME", "hecate-daemon"), ("EMAIL", "hecate-daemon@localhost")];
    for role in ["AUTHOR", "COMMITTER"] {
        git.envs(who.map(|(what, value)| (format!("GIT_{role}_{what}"), value)));
    }
    git.env("LC_ALL", "C").env("HOME", NOTHING).env("GIT_CONFIG_GLOBAL", NOTHING).env("GIT_CONFIG_NOSYSTEM", "1");
    // Keeps git from using a repository above this one.
    git.env("GIT_CEILING_DIRECTORIES", path.parent().map_or(OsStr::new("/"), Path::as_os_str));
    git.args(OFF.iter().flat_map(|setting| ["-c", setting])).args(arguments);
    git.stdin(std::process::Stdio::null());
    git
}

/// Refuses to create files in the home of another user, which `sudo` may leave in `HOME`.
pub(super) fn ensure_place(home: &Path) -> Result<()> {
    let found = home.ancestors().find_map(|path| Some((path, fs::stat(path).ok()?)));
    match found {
        Some((path, stat)) if path == home || rustix::process::geteuid().is_root() => ensure_ours(path, stat.st_uid),
        _ => Ok(()),
    }
}

fn ensure_ours(path: &Path, owner: u32) -> Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    match owner == uid {
        true => Ok(()),
        false => Err(RepositoryError::OtherOwner { path: path.to_owned(), owner, uid }),
    }
}

fn io_error(doing: &'static str, path: &Path, root: &Path, source: io::Error) -> RepositoryError {
    RepositoryError::Io { doing, path: path.to_owned(), root: root.to_owned(), source }
}
