//! Checks by device and inode whether the file at a path is still the same, and moves files without
//! replacing others.
//!
//! The functions that access files block. They do not follow a symbolic link in the last part of a
//! path.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, Stat, renameat_with};
use rustix::io::Errno;

/// The identity of a file. The system does not reuse the inode number of a file that is still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inode {
    /// Device number.
    pub device: u64,
    /// Inode number on that device.
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

/// The state of a path, compared with the file that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The same file or directory is there.
    Ours,
    /// There is no file.
    Missing,
    /// Another file or directory is there.
    Foreign,
    /// The path cannot be checked.
    Unclear,
}

impl Sight {
    /// Returns the state of a path for a result of [`look`].
    #[must_use]
    pub fn of(is_ours: impl FnOnce(Inode) -> bool, found: io::Result<Option<Metadata>>) -> Self {
        match found {
            Ok(Some(found)) if is_ours(Inode::from(&found)) => Self::Ours,
            Ok(Some(_)) => Self::Foreign,
            Ok(None) => Self::Missing,
            Err(_) => Self::Unclear,
        }
    }

    /// Compares the file at a path with `ours`.
    #[must_use]
    pub fn at(path: &Path, ours: Inode) -> Self {
        Self::of(|found| found == ours, look(path))
    }
}

/// Returns the metadata of the file at a path, or `None` if there is none.
///
/// # Errors
/// The system's error, other than one for a missing file.
pub fn look(path: &Path) -> io::Result<Option<Metadata>> {
    found(std::fs::symlink_metadata(path))
}

/// Converts the error for a missing file to `None`.
///
/// # Errors
/// Every other error is returned.
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
/// The file cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames a file within its directory, unless a file has the new name already.
///
/// # Errors
/// A file has the new name, or the system's error. The file then keeps its old name.
pub fn place(draft: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        // Not every file system supports this flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            std::fs::hard_link(draft, path)?;
            remove(draft)
        }
        renamed => Ok(renamed?),
    }
}

/// Returns the path with a suffix appended to its file name.
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
        assert_eq!(place(&draft, &path).expect_err("the name is in use").kind(), io::ErrorKind::AlreadyExists);
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
        // The file is kept under another name, so that its inode number is not reused.
        std::fs::rename(&path, dir.path().join("old")).expect("moved");
        assert_eq!(sight(&path), Sight::Missing);
        std::os::unix::fs::symlink("old", &path).expect("linked");
        assert_eq!(sight(&path), Sight::Foreign, "a symbolic link is not followed");
        assert_eq!(Sight::of(|_| true, Err(io::ErrorKind::PermissionDenied.into())), Sight::Unclear);
    }

    #[test]
    fn a_suffix_is_appended_to_any_bytes() {
        use std::os::unix::ffi::OsStrExt as _;
        let name = Path::new(std::ffi::OsStr::from_bytes(b"/a/\xff.db"));
        assert_eq!(beside(name, "-wal").as_os_str().as_bytes(), b"/a/\xff.db-wal");
    }
}
