//! Looks up users and groups in `/etc/passwd` and `/etc/group` (passwd(5), group(5)). Does not use
//! other sources of accounts.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::limits;

/// Returns the first [`limits::ACCOUNTS`] bytes of a file, as text.
fn read(path: &Path) -> io::Result<String> {
    let most = u64::try_from(limits::ACCOUNTS).unwrap_or(u64::MAX);
    let mut file = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut file)?;
    Ok(String::from_utf8_lossy(&file).into_owned())
}

/// Returns the number of a group; none if `/etc/group` does not have it.
///
/// # Errors
/// The file cannot be read.
pub fn gid_of(name: &str) -> io::Result<Option<u32>> {
    Ok(gid_in(name, &read(Path::new("/etc/group"))?))
}

/// Returns the home directory of a user; none if `/etc/passwd` does not have the user.
///
/// # Errors
/// The file cannot be read.
pub fn home_of(uid: u32) -> io::Result<Option<String>> {
    Ok(home_in(uid, &read(Path::new("/etc/passwd"))?))
}

/// Returns the name of a user; none if `/etc/passwd` cannot be read or does not have the user.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    name_in(uid, &read(Path::new("/etc/passwd")).ok()?)
}

fn name_in(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn gid_in(name: &str, group: &str) -> Option<u32> {
    group.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let gid = fields.nth(1)?;
        found.then(|| gid.parse().ok()).flatten()
    })
}

fn home_in(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let found = fields.get(2)?.parse() == Ok(uid);
        found.then(|| fields.get(5).map(|home| (*home).to_owned())).flatten()
    })
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test ends where it is surprised")]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_is_found_by_its_number() {
        let file = "root:x:0:0::/root:/bin/sh\nbroken\n:x:7:7::/:\nalice:x:1000:1000::/home/alice:\n";
        assert_eq!(name_in(1000, file).as_deref(), Some("alice"));
        assert_eq!((name_in(7, file), name_in(1001, file)), (None, None));
    }

    #[test]
    fn a_group_is_found_by_its_name() {
        let file = "root:x:0:\nbroken\nhecate:x:990:alice,bob\n";
        assert_eq!(gid_in("hecate", file), Some(990));
        assert_eq!(gid_in("broken", file), None);
        assert_eq!(gid_in("alice", file), None);
    }

    #[test]
    fn a_home_is_found_by_the_number_of_its_user() {
        let file = "root:x:0:0:root:/root:/bin/sh\nbroken\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(home_in(1000, file).as_deref(), Some("/home/alice"));
        assert_eq!(home_in(7, file), None);
    }

    #[test]
    fn only_the_beginning_of_a_large_file_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("group");
        let (first, last) = ("first:x:1:\n", "last:x:2:\n");
        let filled = |length: usize| format!("{first}{}\n{last}", "#".repeat(length - first.len() - last.len() - 1));
        std::fs::write(&path, filled(limits::ACCOUNTS)).expect("written");
        assert_eq!(gid_in("last", &read(&path).expect("read")), Some(2));
        std::fs::write(&path, filled(limits::ACCOUNTS + last.len())).expect("written");
        let text = read(&path).expect("read");
        assert_eq!((gid_in("first", &text), gid_in("last", &text)), (Some(1), None));
    }
}
