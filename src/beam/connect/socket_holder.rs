//! Finds the processes that have sockets open, as proc(5) shows them.
//!
//! The kernel shows the open files of a process only to its own user and to root. Unless this
//! process runs as root, it finds no process for the sockets of other users.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::limits;

/// A process that has a socket open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    /// The name of its program, at most 15 bytes. The process can choose it, so escape it for
    /// display.
    pub program: String,
}

/// Returns the processes that have sockets with these inode numbers open, as far as the kernel
/// shows them. Looks at no more than [`limits::SOCKET_HOLDERS`] open files. Blocks.
#[must_use]
pub(crate) fn holders(inodes: &BTreeSet<u32>) -> BTreeMap<u32, Holder> {
    search(Path::new("/proc"), inodes, limits::SOCKET_HOLDERS)
}

fn search(proc: &Path, inodes: &BTreeSet<u32>, files: usize) -> BTreeMap<u32, Holder> {
    let mut found = BTreeMap::new();
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // Process 1 comes last: a service manager may have opened the socket for another process.
    pids.sort_unstable_by_key(|pid| (*pid == 1, *pid));
    let descriptors = pids.into_iter().flat_map(|pid| {
        let directory = proc.join(pid.to_string());
        let descriptors = fs::read_dir(directory.join("fd")).into_iter().flatten().flatten();
        descriptors.map(move |descriptor| (pid, descriptor.path()))
    });
    for (pid, descriptor) in descriptors.take(files) {
        let Some(inode) = socket(&descriptor).filter(|inode| inodes.contains(inode) && !found.contains_key(inode))
        else {
            continue;
        };
        if let Some(program) = program(&proc.join(pid.to_string())) {
            found.insert(inode, Holder { pid, program });
        }
        if found.len() == inodes.len() {
            break;
        }
    }
    found
}

/// Returns the inode number of the socket that a descriptor refers to, if it is one.
fn socket(descriptor: &Path) -> Option<u32> {
    let target = fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn program(process: &Path) -> Option<String> {
    let name = fs::read(process.join("comm")).ok()?;
    let name = String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned();
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process with these descriptors, as proc(5) shows it.
    fn process(proc: &Path, pid: i32, program: &str, descriptors: &[&str]) {
        let directory = proc.join(pid.to_string());
        fs::create_dir_all(directory.join("fd")).unwrap();
        fs::write(directory.join("comm"), format!("{program}\n")).unwrap();
        for (number, target) in descriptors.iter().enumerate() {
            std::os::unix::fs::symlink(target, directory.join(format!("fd/{number}"))).unwrap();
        }
    }

    fn found(proc: &Path, inodes: &[u32], files: usize) -> Vec<(u32, i32, String)> {
        let found = search(proc, &inodes.iter().copied().collect(), files);
        found.into_iter().map(|(inode, holder)| (inode, holder.pid, holder.program)).collect()
    }

    #[test]
    fn each_socket_has_the_process_that_serves_it() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("sys")).unwrap();
        process(proc.path(), 1, "systemd", &["socket:[42]"]);
        process(proc.path(), 7, "other", &["/dev/null", "socket:[43]", "pipe:[42]"]);
        process(proc.path(), 9, "epmd", &["/dev/null", "socket:[42]", "socket:[44]"]);
        let epmd = |inode| (inode, 9, "epmd".to_owned());
        assert_eq!(found(proc.path(), &[42, 44, 45], 100), [epmd(42), epmd(44)], "45 belongs to another user");
        assert_eq!(found(proc.path(), &[], 100), []);
    }

    #[test]
    fn the_name_of_a_program_cannot_drive_a_terminal() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), 9, "e\u{1b}[2J\nd\u{202e}", &["socket:[42]"]);
        assert_eq!(found(proc.path(), &[42], 100), [(42, 9, "e\u{1b}[2J\nd\u{202e}".to_owned())]);
    }

    #[test]
    fn the_number_of_inspected_files_is_bounded() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), 8, "busy", &["/dev/null"; 65_535]);
        process(proc.path(), 9, "epmd", &["socket:[42]"]);
        assert_eq!(found(proc.path(), &[42], limits::SOCKET_HOLDERS).len(), 1);
        std::os::unix::fs::symlink("/dev/null", proc.path().join("8/fd/65535")).unwrap();
        assert_eq!(found(proc.path(), &[42], limits::SOCKET_HOLDERS), []);
    }
}
