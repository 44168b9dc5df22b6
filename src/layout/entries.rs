//! What is in a directory: names and kinds, in no order.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

/// At most so many of the entries that are wanted. A symbolic link is one, whatever it leads to.
pub(super) fn entries(
    dir: impl AsFd,
    most: usize,
    wanted: impl Fn(&OsStr, FileType) -> bool,
) -> rustix::io::Result<Vec<(OsString, FileType)>> {
    // Opened anew: `dir` may be open as a place only (`O_PATH`), and is read from its beginning each time.
    let fd = openat(&dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut found = Vec::new();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems don't tell.
            FileType::Unknown => FileType::from_raw_mode(statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            told => told,
        };
        if wanted(name, kind) {
            found.push((name.to_owned(), kind));
        }
        if found.len() >= most {
            break;
        }
    }
    Ok(found)
}
