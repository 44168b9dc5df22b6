//! Lists directories.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

/// Returns the names and types of the entries that satisfy a condition, at most `max`, in no
/// particular order. Symbolic links are not followed.
pub(super) fn entries(
    dir: impl AsFd,
    max: usize,
    is_wanted: impl Fn(&OsStr, FileType) -> bool,
) -> rustix::io::Result<Vec<(OsString, FileType)>> {
    // Opened again, because `dir` may be opened with `O_PATH`, and must be read from its beginning.
    let fd = openat(&dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut found = Vec::new();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not report the type.
            FileType::Unknown => FileType::from_raw_mode(statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            known => known,
        };
        if is_wanted(name, kind) {
            found.push((name.to_owned(), kind));
        }
        if found.len() >= max {
            break;
        }
    }
    Ok(found)
}
