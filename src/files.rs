//! Checks by device and inode whether the file at a path is still the one that was there before,
//! and moves files without replacing others.
//!
//! Functions that access files block on the disk for a moment. None follows a symbolic link in the
//! last part of a path.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, Stat, renameat_with};
use rustix::io::Errno;

/// The device and inode number of a file. The system does not reuse the number of a file that is
/// still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inode {
    /// Device.
    pub device: u64,
    /// Number on the device.
    pub number: u64,
}

impl From<&Metadata> for Inode {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

impl From<&Stat> for Inode {
    fn from(stat: &Stat) -> Self {
        Self { device: stat.st_dev, number: stat.st_ino }
    }
}

/// The file at a path, compared with the one that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The same file or directory.
    Ours,
    /// Nothing.
    Missing,
    /// Another file or directory.
    Foreign,
    /// It cannot be looked at.
    Unclear,
}

impl Sight {
    /// Judges what [`look`] found.
    #[must_use]
    pub fn of(is_ours: impl FnOnce(Inode) -> bool, found: io::Result<Option<Metadata>>) -> Self {
        match found {
            Ok(Some(found)) if is_ours(Inode::from(&found)) => Self::Ours,
            Ok(Some(_)) => Self::Foreign,
            Ok(None) => Self::Missing,
            Err(_) => Self::Unclear,
        }
    }

    /// Looks at a path.
    #[must_use]
    pub fn at(path: &Path, ours: Inode) -> Self {
        Self::of(|found| found == ours, look(path))
    }
}

/// Returns the metadata of the file at a path, or `None` if there is none.
///
/// # Errors
/// The path cannot be looked at.
pub fn look(path: &Path) -> io::Result<Option<Metadata>> {
    found(std::fs::symlink_metadata(path))
}

/// Turns the error for a missing file into `None`.
///
/// # Errors
/// Any other error.
pub fn found(looked: io::Result<Metadata>) -> io::Result<Option<Metadata>> {
    match looked {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file, if there is one.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves a file to another name in the same directory, unless a file has that name.
///
/// # Errors
/// A file has that name, or the system's error. The file then still has its old name.
pub fn place(draft: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        // Not every file system supports that.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            std::fs::hard_link(draft, path)?;
            remove(draft)
        }
        renamed => Ok(renamed?),
    }
}

/// Appends a suffix to the name of a file.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_never_replaces_another() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let [draft, path] = ["draft", "path"].map(|name| dir.path().join(name));
        std::fs::write(&draft, "new").expect("written");
        std::fs::write(&path, "old").expect("written");
        assert_eq!(place(&draft, &path).expect_err("it is there").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "old");
        std::fs::remove_file(&path).expect("there");
        place(&draft, &path).expect("the name is free");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "new");
        assert!(!draft.exists());
    }

    #[test]
    fn files_are_compared_by_inode() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("path");
        std::fs::write(&path, "").expect("written");
        let ours = Inode::from(&look(&path).expect("readable").expect("there"));
        let sight = |path: &Path| Sight::at(path, ours);
        assert_eq!(sight(&path), Sight::Ours);
        assert_eq!(sight(&path.join("below")), Sight::Missing, "a file has nothing below it");
        // Kept under another name, so that its number is not given to another file.
        std::fs::rename(&path, dir.path().join("old")).expect("moved");
        assert_eq!(sight(&path), Sight::Missing);
        std::os::unix::fs::symlink("old", &path).expect("linked");
        assert_eq!(sight(&path), Sight::Foreign, "a link is not followed");
        assert_eq!(Sight::of(|_| true, Err(io::ErrorKind::PermissionDenied.into())), Sight::Unclear);
    }

    #[test]
    fn a_suffix_follows_any_name() {
        use std::os::unix::ffi::OsStrExt as _;
        let name = Path::new(std::ffi::OsStr::from_bytes(b"/a/\xff.db"));
        assert_eq!(beside(name, "-wal").as_os_str().as_bytes(), b"/a/\xff.db-wal");
    }
}
