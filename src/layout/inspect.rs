//! Inspects the directories of a home for `doctor`, whether a daemon uses it or not. Read-only:
//! creates no directories and follows no symbolic links.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::paths::{Home, Namespace, SUBDIRECTORIES};
use crate::limits;

/// The path of a directory, and the file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path.
    pub path: PathBuf,
    /// The file at the path.
    pub found: Found,
}

/// The file at a path where a directory is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is no file.
    Nothing,
    /// A directory, as expected.
    Directory {
        /// The owner.
        uid: u32,
        /// The permission bits.
        mode: u32,
    },
    /// A symbolic link, which the daemon does not follow below home.
    SymbolicLink,
    /// Another type of file.
    SomethingElse,
    /// The path cannot be checked.
    Unclear(io::ErrorKind),
}

impl Home {
    /// Inspects home, the daemon's own namespace with its subdirectories, and the other namespaces,
    /// at most [`limits::PLUGINS`] of them.
    #[must_use]
    pub fn inspect(&self) -> Vec<Place> {
        let root = self.root();
        // Symbolic links in the path of home are allowed, and home itself may be one.
        let mut places = vec![place(root, fs::metadata(root))];
        let own = self.own();
        let mut below = vec![own.base().to_owned()];
        below.extend(SUBDIRECTORIES.iter().map(|name| own.base().join(name)));
        let others = fs::read_dir(root).into_iter().flatten().take(limits::PLUGINS).flatten().map(|entry| entry.path());
        below.extend(others.filter(|path| path != own.base() && is_namespace(path)));
        places.extend(below.iter().map(|path| place(path, fs::symlink_metadata(path))));
        places
    }
}

impl Namespace {
    /// Returns the directories of this namespace that do not exist.
    #[must_use]
    pub fn missing(&self) -> Vec<PathBuf> {
        let below = SUBDIRECTORIES.iter().map(|name| self.base().join(name));
        let all = [self.base().to_owned()].into_iter().chain(below);
        all.filter(|path| place(path, fs::symlink_metadata(path)).found == Found::Nothing).collect()
    }
}

fn is_namespace(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| crate::plugin::PluginName::parse(name).is_ok())
}

fn place(path: &Path, probed: io::Result<Metadata>) -> Place {
    let found = match probed {
        Ok(metadata) if metadata.is_dir() => Found::Directory { uid: metadata.uid(), mode: metadata.mode() & 0o7777 },
        Ok(metadata) if metadata.is_symlink() => Found::SymbolicLink,
        Ok(_) => Found::SomethingElse,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(error) => Found::Unclear(error.kind()),
    };
    Place { path: path.to_owned(), found }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::plugin::sample;

    #[test]
    fn each_path_is_reported_with_its_type() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = dir.path().join("home");
        let home = Home::new(root.clone()).expect("absolute");
        let found = |path: &str| {
            let path = if path.is_empty() { root.clone() } else { root.join(path) };
            let place = home.inspect().into_iter().find(|place| place.path == path);
            place.map(|place| place.found)
        };
        assert_eq!(found(""), Some(Found::Nothing));
        assert_eq!(found("hecate-daemon/run"), Some(Found::Nothing));

        fs::create_dir_all(root.join("hecate-daemon/run")).expect("made");
        fs::set_permissions(root.join("hecate-daemon"), fs::Permissions::from_mode(0o2750)).expect("set");
        fs::write(root.join("hecate-daemon/sockets"), "").expect("written");
        symlink("/nowhere", root.join("hecate-traderd")).expect("linked");
        symlink("/nowhere", root.join("gitops")).expect("linked");
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(found("hecate-daemon"), Some(Found::Directory { uid, mode: 0o2750 }));
        assert_eq!(found("hecate-daemon/sockets"), Some(Found::SomethingElse));
        assert_eq!(found("hecate-traderd"), Some(Found::SymbolicLink));
        assert_eq!(found("gitops"), None, "it is not a namespace");
    }

    #[test]
    fn the_missing_directories_of_a_namespace_are_listed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let home = Home::new(dir.path().to_owned()).expect("absolute");
        let namespace = home.namespace(&sample::name("hecate-traderd"));
        assert_eq!(namespace.missing().len(), 1 + SUBDIRECTORIES.len());
        for name in SUBDIRECTORIES {
            fs::create_dir_all(namespace.base().join(name)).expect("made");
        }
        assert_eq!(namespace.missing(), Vec::<PathBuf>::new());
        fs::remove_dir(namespace.sqlite()).expect("removed");
        assert_eq!(namespace.missing(), [namespace.sqlite()]);
        symlink("/nowhere", namespace.sqlite()).expect("linked");
        assert_eq!(namespace.missing(), Vec::<PathBuf>::new(), "a link is another finding");
    }

    #[test]
    fn home_itself_may_be_a_link() {
        let dir = tempfile::tempdir().expect("temporary directory");
        symlink(dir.path(), dir.path().join("link")).expect("linked");
        let home = Home::new(dir.path().join("link")).expect("absolute");
        assert!(matches!(home.inspect().first(), Some(Place { found: Found::Directory { .. }, .. })));
    }
}
