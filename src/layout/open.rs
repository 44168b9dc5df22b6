//! Opens files below a directory, through no symbolic link.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, Mode, OFlags, ResolveFlags};

/// Opens a path below a directory without following any symbolic link, which is `ELOOP`. (With `O_NOFOLLOW` a link in
/// the last place could be opened itself.)
pub(super) fn open_at(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve)
}
