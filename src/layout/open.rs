//! Opens files below a directory without following symbolic links.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, Mode, OFlags, ResolveFlags};

/// Opens a path below a directory. Any symbolic link in the path is the error `ELOOP`. With
/// `O_NOFOLLOW` instead, a link in the last part could itself be opened.
pub(super) fn open_at(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve)
}
