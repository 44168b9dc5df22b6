//! Removes the namespace of a plugin for good: first it is renamed, which is done or not, then what is in it is removed.
//!
//! The new name carries the revision of the purge. So whoever finds it after a crash knows from the registry whether the
//! purge was recorded, and ends it, or else puts the namespace back ([`Layout::settle_purges`]). Follows no symbolic link and
//! crosses no mount point: nothing outside the namespace is touched, whatever is planted in it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::create::{Layout, LayoutError};
use super::entries::entries;
use crate::limits;
use crate::name::PluginName;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Directories, the namespace itself among them.
    pub directories: u64,
    /// Everything else: files, sockets, symbolic links.
    pub files: u64,
    /// What the plain files held, in bytes.
    pub bytes: u64,
}

/// A namespace that was renamed and waits to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    plugin: PluginName,
    revision: u64,
}

impl SetAside {
    fn name(&self) -> String {
        format!(".{}.purged-{}", self.plugin, self.revision)
    }

    /// A name under which it is never taken for one that may be removed.
    fn kept_name(&self) -> String {
        format!(".{}.kept-{}", self.plugin, self.revision)
    }

    fn parse(name: &OsStr) -> Option<Self> {
        let (plugin, revision) = name.to_str()?.strip_prefix('.')?.split_once(".purged-")?;
        Some(Self { plugin: PluginName::parse(plugin).ok()?, revision: revision.parse().ok()? })
    }
}

impl Layout {
    /// Whether a plugin has a namespace.
    ///
    /// # Errors
    /// See [`LayoutError`]: it is a symbolic link, or no directory.
    pub fn has_namespace(&self, name: &PluginName) -> Result<bool, LayoutError> {
        match self.namespace(name) {
            Ok(_) => Ok(true),
            Err(LayoutError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Renames a namespace, so that it is no plugin's any more.
    ///
    /// # Errors
    /// Nothing has changed.
    pub fn set_namespace_aside(&self, name: &PluginName, revision: u64) -> Result<SetAside, LayoutError> {
        // What is renamed is a directory: a link or a file in its place is told.
        self.namespace(name)?;
        let aside = SetAside { plugin: name.clone(), revision };
        self.rename(name.as_str(), &aside.name())?;
        Ok(aside)
    }

    /// Gives a namespace its name back, unless another has it by now.
    ///
    /// # Errors
    /// It is kept under a third name, for the revision that it carries will come and be another's; the error tells it.
    pub fn put_namespace_back(&self, aside: &SetAside) -> Result<(), LayoutError> {
        self.rename(&aside.name(), aside.plugin.as_str()).or_else(|_| {
            let kept = aside.kept_name();
            self.rename(&aside.name(), &kept)?;
            Err(LayoutError::Kept {
                path: self.home().namespace(&aside.plugin).base().to_owned(),
                kept: self.home().root().join(kept),
            })
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), LayoutError> {
        let renamed = fs::renameat_with(self.root(), from, self.root(), to, RenameFlags::NOREPLACE);
        renamed.map_err(|errno| self.explain_below("rename", Path::new(from), errno))
    }

    /// Removes what was set aside, all of it.
    ///
    /// # Errors
    /// A part of it is left; the error names what could not be removed.
    pub fn remove_aside(&self, aside: &SetAside) -> Result<Removed, LayoutError> {
        let name = aside.name();
        let mut removal = Removal { removed: Removed::default(), path: self.home().root().to_owned() };
        removal.directory(self.root(), OsStr::new(&name), 0)?;
        Ok(removal.removed)
    }

    /// Ends what a crash has cut off: purges up to this revision were recorded and are carried on, others never happened.
    /// Gives what is still to be removed.
    ///
    /// # Errors
    /// Home can't be read.
    pub fn settle_purges(&self, revision: u64) -> Result<Vec<SetAside>, LayoutError> {
        let ours = |name: &OsStr, _| SetAside::parse(name).is_some();
        let found = entries(self.root(), usize::MAX, ours);
        let found = found.map_err(|errno| self.explain_below("list", Path::new(""), errno))?;
        let mut recorded = Vec::new();
        for aside in found.iter().filter_map(|(name, _)| SetAside::parse(name)) {
            if aside.revision <= revision {
                recorded.push(aside);
            } else if let Err(error) = self.put_namespace_back(&aside) {
                tracing::warn!(plugin = %aside.plugin, %error, "a purge never was, and what it had set aside could not be put back");
            }
        }
        Ok(recorded)
    }
}

/// A removal under way.
struct Removal {
    removed: Removed,
    /// The directory that is being emptied, for errors.
    path: PathBuf,
}

impl Removal {
    /// Empties a directory, then removes it.
    fn directory(&mut self, parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<(), LayoutError> {
        self.path.push(name);
        if depth > limits::PURGE_DEPTH {
            let source = io::Error::other(format!("it lies more than {} directories deep", limits::PURGE_DEPTH));
            return Err(self.error(source));
        }
        let fd = self.open(parent, name)?;
        // Removed while it is read, a directory may hide some of what it holds: so it is read until nothing is left.
        loop {
            let page = entries(&fd, limits::PURGE_PAGE, |_, _| true).map_err(|errno| self.error(errno.into()))?;
            if page.is_empty() {
                break;
            }
            for (entry, kind) in page {
                if kind == FileType::Directory {
                    self.directory(fd.as_fd(), &entry, depth + 1)?;
                } else {
                    self.file(fd.as_fd(), &entry)?;
                }
            }
        }
        fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(|errno| self.error(errno.into()))?;
        self.removed.directories += 1;
        self.path.pop();
        Ok(())
    }

    fn open(&self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, LayoutError> {
        // "Nothing outside it": a mount point leads elsewhere as much as a link does.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::openat2(parent, name, flags, fs::Mode::empty(), resolve).map_err(|errno| {
            let source = if errno == Errno::XDEV {
                io::Error::other("something is mounted there: unmount it first")
            } else {
                errno.into()
            };
            self.error(source)
        })
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), LayoutError> {
        let removed = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).and_then(|stat| {
            fs::unlinkat(dir, name, AtFlags::empty())?;
            Ok(stat)
        });
        let stat = removed.map_err(|errno| {
            self.path.push(name);
            self.error(errno.into())
        })?;
        self.removed.files += 1;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            self.removed.bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
        Ok(())
    }

    fn error(&self, source: io::Error) -> LayoutError {
        LayoutError::Io { doing: "remove", path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::super::{Home, Modes};
    use super::*;

    struct Scene {
        dir: tempfile::TempDir,
        layout: Layout,
        name: PluginName,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("temporary directory");
            let home = Home::new(dir.path().join("home")).expect("absolute");
            let layout = Layout::open(home, Modes::default()).expect("opened");
            let name = PluginName::parse("hecate-traderd").expect("valid");
            layout.ensure(&name, None).expect("made");
            Self { dir, layout, name }
        }

        fn base(&self) -> PathBuf {
            self.layout.home().namespace(&self.name).base().to_owned()
        }

        fn aside(&self) -> SetAside {
            self.layout.set_namespace_aside(&self.name, 7).expect("renamed")
        }
    }

    #[test]
    fn all_of_a_namespace_goes_and_is_counted() {
        let scene = Scene::new();
        let base = scene.base();
        std::fs::write(base.join("sqlite/a.db"), "12345").expect("written");
        std::fs::create_dir_all(base.join("reckon-db/ra/wal")).expect("made");
        std::fs::write(base.join("reckon-db/ra/wal/1"), "678").expect("written");
        drop(UnixListener::bind(base.join("sockets/api.sock")).expect("bound"));
        let aside = scene.aside();
        assert!(!base.exists(), "it is nobody's from the first moment on");
        assert!(!scene.layout.has_namespace(&scene.name).expect("looked"));
        let removed = scene.layout.remove_aside(&aside).expect("removed");
        assert_eq!(removed, Removed { directories: 8, files: 3, bytes: 8 });
        assert_eq!(std::fs::read_dir(scene.layout.home().root()).expect("read").count(), 0);
    }

    #[test]
    fn links_are_removed_and_never_followed() {
        let scene = Scene::new();
        let outside = scene.dir.path().join("outside");
        std::fs::create_dir(&outside).expect("made");
        std::fs::write(outside.join("kept"), "kept").expect("written");
        for place in ["link", "sqlite/link", "run/link"] {
            symlink(&outside, scene.base().join(place)).expect("linked");
        }
        symlink("..", scene.base().join("up")).expect("linked");
        std::fs::remove_dir(scene.base().join("connectors")).expect("removed");
        symlink(&outside, scene.base().join("connectors")).expect("linked");
        let removed = scene.layout.remove_aside(&scene.aside()).expect("removed");
        assert_eq!(removed, Removed { directories: 5, files: 5, bytes: 0 });
        assert_eq!(std::fs::read_to_string(outside.join("kept")).expect("there"), "kept");
    }

    #[test]
    fn a_namespace_that_is_a_link_is_not_touched() {
        let scene = Scene::new();
        let outside = scene.dir.path().join("outside");
        std::fs::rename(scene.base(), &outside).expect("moved");
        symlink(&outside, scene.base()).expect("linked");
        for refused in [
            scene.layout.has_namespace(&scene.name).map(drop),
            scene.layout.set_namespace_aside(&scene.name, 7).map(drop),
        ] {
            assert!(matches!(refused, Err(LayoutError::SymbolicLink(_))), "{refused:?}");
        }
        assert!(outside.join("sqlite").is_dir() && scene.base().is_symlink());
    }

    #[test]
    fn a_directory_with_much_in_it_is_emptied_page_by_page() {
        let scene = Scene::new();
        let many = limits::PURGE_PAGE * 2 + 1;
        for number in 0..many {
            std::fs::write(scene.base().join(format!("sqlite/{number}")), "").expect("written");
        }
        let removed = scene.layout.remove_aside(&scene.aside()).expect("removed");
        assert_eq!((removed.directories, removed.files), (6, u64::try_from(many).expect("small")));
    }

    #[test]
    fn what_lies_too_deep_is_left_and_named() {
        let scene = Scene::new();
        let deep = |levels: usize| scene.base().join("sqlite").join(vec!["d"; levels].join("/"));
        std::fs::create_dir_all(deep(limits::PURGE_DEPTH)).expect("made");
        let aside = scene.aside();
        let refused = scene.layout.remove_aside(&aside).expect_err("too deep").to_string();
        assert!(refused.contains("/d/d/d") && refused.contains("directories deep"), "{refused}");
        scene.layout.put_namespace_back(&aside).expect("still there");
        std::fs::remove_dir(deep(limits::PURGE_DEPTH)).expect("removed");
        scene.layout.remove_aside(&scene.aside()).expect("removed");
    }

    #[test]
    fn what_a_crash_has_cut_off_is_ended_or_never_was() {
        let scene = Scene::new();
        std::fs::write(scene.layout.home().root().join(".hecate-traderd.purged-x"), "not ours").expect("written");
        scene.aside();
        assert_eq!(scene.layout.settle_purges(6).expect("read"), [], "it was never recorded");
        assert!(scene.base().join("sqlite").is_dir(), "so it is back");
        scene.aside();
        // A namespace that was made since belongs to whoever made it.
        scene.layout.ensure(&scene.name, None).expect("made");
        assert_eq!(scene.layout.settle_purges(6).expect("read"), []);
        assert_eq!(scene.layout.settle_purges(7).expect("read"), [], "its revision is another event's by now");
        let kept = scene.layout.home().root().join(".hecate-traderd.kept-7");
        assert!(kept.join("sqlite").is_dir() && scene.base().join("sqlite").is_dir());
        let taken = scene.aside();
        scene.layout.ensure(&scene.name, None).expect("made");
        assert_eq!(scene.layout.settle_purges(7).expect("read"), std::slice::from_ref(&taken));
        scene.layout.remove_aside(&taken).expect("removed");
        assert!(scene.base().join("sqlite").is_dir());
        assert!(scene.layout.home().root().join(".hecate-traderd.purged-x").exists());
    }
}
