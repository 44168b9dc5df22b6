//! What is where directories of home belong, looked at without making, following or changing anything: for whoever asks what is
//! wrong with a home before or while a daemon uses it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::paths::{Home, Namespace, SUBDIRECTORIES};
use crate::limits;

/// One place and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub found: Found,
}

/// What is at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing yet.
    Nothing,
    /// A directory, as it should be.
    Directory {
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
    },
    /// A symbolic link, which nobody follows below home.
    SymbolicLink,
    /// Anything else.
    SomethingElse,
    /// It can't be told.
    Unclear(io::ErrorKind),
}

impl Home {
    /// Looks at home, our own namespace with all that belongs in it, and every other namespace ([`limits::PLUGINS`] of them at
    /// most).
    #[must_use]
    pub fn inspect(&self) -> Vec<Place> {
        let root = self.root();
        // Links on the way to home, and home itself as one, are the user's own business.
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
    fn each_place_is_told_as_it_is() {
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
        assert_eq!(found("gitops"), None, "what is no namespace is not ours to judge");
    }

    #[test]
    fn the_directories_that_a_namespace_lacks() {
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
