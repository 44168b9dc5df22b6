//! Removes the namespace of a plugin. First it is renamed, which is atomic, then it is emptied and
//! removed.
//!
//! The new name contains the revision of the purge. After a crash, the next start compares it with
//! the registry ([`Layout::settle_purges`]): a recorded purge is finished, and any other namespace
//! is put back. Symbolic links are not followed and mount points not crossed, so nothing outside
//! the namespace is removed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::create::{Layout, explain};
use super::entries::entries;
use super::error::LayoutError;
use super::open::open_at;
use crate::limits;
use crate::plugin::PluginName;

/// What a purge removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// The number of directories, including the namespace itself.
    pub directories: u64,
    /// The number of other files, including sockets and symbolic links.
    pub files: u64,
    /// The size of the regular files in bytes.
    pub bytes: u64,
}

/// A namespace that was renamed and is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    plugin: PluginName,
    revision: u64,
}

impl SetAside {
    fn name(&self) -> String {
        format!(".{}.purged-{}", self.plugin, self.revision)
    }

    /// Returns a name for data that must not be removed.
    fn kept_name(&self) -> String {
        format!(".{}.kept-{}", self.plugin, self.revision)
    }

    fn parse(name: &OsStr) -> Option<Self> {
        let (plugin, revision) = name.to_str()?.strip_prefix('.')?.split_once(".purged-")?;
        Some(Self { plugin: PluginName::parse(plugin).ok()?, revision: revision.parse().ok()? })
    }
}

/// Some entries that were set aside could not be removed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{left} of the entries in {aside} could not be removed; the first error: {first}. Fix it and restart the daemon, or \
     remove {aside} yourself", aside = aside.display()
)]
pub struct Incomplete {
    aside: PathBuf,
    left: u64,
    first: Box<LayoutError>,
}

impl Layout {
    /// Returns whether a plugin has a namespace.
    ///
    /// # Errors
    /// See [`LayoutError`], such as for a symbolic link or a file.
    pub fn has_namespace(&self, name: &PluginName) -> Result<bool, LayoutError> {
        match self.namespace(name) {
            Ok(_) => Ok(true),
            Err(LayoutError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Renames the namespace of a plugin for its removal.
    ///
    /// # Errors
    /// The namespace was not renamed.
    pub fn set_namespace_aside(&self, name: &PluginName, revision: u64) -> Result<SetAside, LayoutError> {
        // A link or a file at its path is an error.
        self.namespace(name)?;
        let aside = SetAside { plugin: name.clone(), revision };
        self.rename(name.as_str(), &aside.name())?;
        Ok(aside)
    }

    /// Renames a namespace back, unless another one was created at its path.
    ///
    /// # Errors
    /// It was renamed to a third name, which is in the error. With its present name it could be
    /// removed later, because another event will have the revision in that name.
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

    /// Removes a namespace that was set aside. If some entries cannot be removed, the others are.
    ///
    /// # Errors
    /// Some entries could not be removed. A later call tries again.
    pub fn remove_aside(&self, aside: &SetAside) -> Result<Removed, Incomplete> {
        let name = aside.name();
        let top = self.home().root().join(&name);
        let mut removal = Removal::new(self.home().root().to_owned());
        removal.set_aside(self.root(), OsStr::new(&name));
        match removal.first {
            None => Ok(removal.removed),
            Some(first) => Err(Incomplete { aside: top, left: removal.left, first: Box::new(first) }),
        }
    }

    /// Completes or reverts purges that a crash interrupted. A purge up to `revision` is recorded,
    /// and its namespace is returned for removal. The namespace of any other purge is put back.
    ///
    /// # Errors
    /// Home cannot be read.
    pub fn settle_purges(&self, revision: u64) -> Result<Vec<SetAside>, LayoutError> {
        let is_set_aside = |name: &OsStr, _| SetAside::parse(name).is_some();
        let found = entries(self.root(), usize::MAX, is_set_aside);
        let found = found.map_err(|errno| self.explain_below("list", Path::new(""), errno))?;
        let mut recorded = Vec::new();
        for aside in found.iter().filter_map(|(name, _)| SetAside::parse(name)) {
            if aside.revision <= revision {
                recorded.push(aside);
            } else if let Err(error) = self.put_namespace_back(&aside) {
                tracing::warn!(plugin = %aside.plugin, %error, "cannot undo an interrupted purge");
            }
        }
        Ok(recorded)
    }
}

/// A removal in progress.
struct Removal {
    removed: Removed,
    /// The number of entries that could not be removed, not counting their parent directories.
    left: u64,
    /// The first error.
    first: Option<LayoutError>,
    /// The directory that is being emptied, for errors.
    path: PathBuf,
    /// The number for the name of the next directory that is moved up.
    next: u64,
}

impl Removal {
    fn new(path: PathBuf) -> Self {
        Self { removed: Removed::default(), left: 0, first: None, path, next: 0 }
    }

    fn set_aside(&mut self, home: BorrowedFd<'_>, name: &OsStr) {
        match self.open(home, name) {
            Ok(top) => {
                self.path.push(name);
                self.empty(top.as_fd(), top.as_fd(), 1);
                self.path.pop();
                if self.left == 0 {
                    self.remove_emptied(home, name);
                }
            }
            Err(error) => self.fail(error),
        }
    }

    /// Empties a directory that is `depth` levels below home, and counts the entries that cannot be
    /// removed. `top` is the directory that was set aside.
    fn empty(&mut self, top: BorrowedFd<'_>, dir: BorrowedFd<'_>, depth: usize) {
        let mut stuck = BTreeSet::new();
        // Reading a directory while it changes may skip entries. So it is read again until it has
        // only entries that cannot be removed.
        while stuck.len() < limits::PURGE_PAGE {
            let page = match entries(dir, limits::PURGE_PAGE, |name, _| !stuck.contains(name)) {
                Ok(page) => page,
                Err(errno) => return self.fail(explain("read", dir, &self.path, Path::new(""), errno)),
            };
            if page.is_empty() {
                break;
            }
            for (name, kind) in page {
                let left = self.left;
                if kind != FileType::Directory {
                    self.file(dir, &name);
                } else if depth < limits::PURGE_DEPTH {
                    self.directory(top, dir, &name, depth);
                } else {
                    self.move_up(top, dir, &name);
                }
                if self.left != left {
                    stuck.insert(name);
                }
            }
        }
    }

    fn directory(&mut self, top: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: &OsStr, depth: usize) {
        let left = self.left;
        match self.open(parent, name) {
            Ok(dir) => {
                self.path.push(name);
                self.empty(top, dir.as_fd(), depth + 1);
                self.path.pop();
            }
            Err(error) => self.fail(error),
        }
        if self.left == left {
            self.remove_emptied(parent, name);
        }
    }

    fn remove_emptied(&mut self, parent: BorrowedFd<'_>, name: &OsStr) {
        match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => self.removed.directories += 1,
            Err(errno) => self.fail(explain("remove", parent, &self.path, Path::new(name), errno)),
        }
    }

    /// Moves a directory that is too deep up into `top`, where it is emptied later. So any depth
    /// can be removed with at most [`limits::PURGE_DEPTH`] open directories.
    fn move_up(&mut self, top: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: &OsStr) {
        loop {
            let new = format!(".deep-{}", self.next);
            self.next += 1;
            match fs::renameat_with(parent, name, top, &new, RenameFlags::NOREPLACE) {
                Ok(()) => return,
                Err(Errno::EXIST) => {}
                Err(errno) => return self.fail(explain("move", parent, &self.path, Path::new(name), errno)),
            }
        }
    }

    fn open(&self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, LayoutError> {
        // A mount point is outside the namespace, just like the target of a link.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = Path::new(name);
        fs::openat2(parent, name, flags, fs::Mode::empty(), resolve).map_err(|errno| match errno {
            Errno::XDEV => {
                let source = io::Error::other("it is a mount point, which must be unmounted first");
                LayoutError::Io { doing: "remove", path: self.path.join(path), source }
            }
            // The directory itself cannot be read; its parent can.
            Errno::ACCESS => match open_at(parent, path, OFlags::PATH | OFlags::DIRECTORY, fs::Mode::empty()) {
                Ok(closed) => explain("read", closed.as_fd(), &self.path.join(path), Path::new(""), errno),
                Err(errno) => explain("open", parent, &self.path, path, errno),
            },
            _ => explain("open", parent, &self.path, path, errno),
        })
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &OsStr) {
        let removed = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).and_then(|stat| {
            fs::unlinkat(dir, name, AtFlags::empty())?;
            Ok(stat)
        });
        match removed {
            Ok(stat) => {
                self.removed.files += 1;
                if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                    self.removed.bytes += u64::try_from(stat.st_size).unwrap_or(0);
                }
            }
            // Another process has removed it.
            Err(Errno::NOENT) => {}
            Err(errno) => self.fail(explain("remove", dir, &self.path, Path::new(name), errno)),
        }
    }

    fn fail(&mut self, error: LayoutError) {
        self.left += 1;
        self.first.get_or_insert(error);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::super::{Home, Modes};
    use super::*;
    use crate::plugin::sample;

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
            let name = sample::name("hecate-traderd");
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
    fn a_namespace_is_removed_and_counted() {
        let scene = Scene::new();
        let base = scene.base();
        std::fs::write(base.join("sqlite/a.db"), "12345").expect("written");
        std::fs::create_dir_all(base.join("reckon-db/ra/wal")).expect("made");
        std::fs::write(base.join("reckon-db/ra/wal/1"), "678").expect("written");
        drop(UnixListener::bind(base.join("sockets/api.sock")).expect("bound"));
        let aside = scene.aside();
        assert!(!base.exists(), "the plugin has no namespace from now on");
        assert!(!scene.layout.has_namespace(&scene.name).expect("probed"));
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
    fn a_large_directory_is_emptied_page_by_page() {
        let scene = Scene::new();
        let many = 2049;
        for number in 0..many {
            std::fs::write(scene.base().join(format!("sqlite/{number}")), "").expect("written");
        }
        let removed = scene.layout.remove_aside(&scene.aside()).expect("removed");
        assert_eq!((removed.directories, removed.files), (6, u64::try_from(many).expect("small")));
    }

    /// Makes `levels` nested directories, which may be too deep for a single path.
    fn nest(within: &Path, levels: usize) {
        let mut dir = fs::open(within, OFlags::PATH | OFlags::DIRECTORY, fs::Mode::empty()).expect("opened");
        for _ in 0..levels {
            fs::mkdirat(&dir, "d", fs::Mode::RWXU).expect("made");
            dir = fs::openat(&dir, "d", OFlags::PATH | OFlags::DIRECTORY, fs::Mode::empty()).expect("opened");
        }
        drop(fs::openat(&dir, "file", OFlags::CREATE | OFlags::RDWR, fs::Mode::RWXU).expect("made"));
    }

    #[test]
    fn data_of_any_depth_is_removed() {
        for levels in [125, 128, 512] {
            let scene = Scene::new();
            nest(&scene.base().join("sqlite"), levels);
            // The first name for a moved directory is in use.
            std::fs::write(scene.base().join(".deep-0"), "").expect("written");
            let removed = scene.layout.remove_aside(&scene.aside()).expect("removed");
            let made = u64::try_from(6 + levels).expect("small");
            assert_eq!((removed.directories, removed.files), (made, 2), "{levels}");
            assert_eq!(std::fs::read_dir(scene.layout.home().root()).expect("read").count(), 0, "{levels}");
        }
    }

    /// Returns how many directories are moved up while this many nested ones are removed.
    fn moved_up(levels: usize) -> u64 {
        let scene = Scene::new();
        nest(&scene.base().join("sqlite"), levels);
        let aside = scene.aside();
        let mut removal = Removal::new(scene.layout.home().root().to_owned());
        removal.set_aside(scene.layout.root(), OsStr::new(&aside.name()));
        assert_eq!(removal.left, 0, "{:?}", removal.first);
        removal.next
    }

    #[test]
    fn directories_that_are_open_at_once_are_bounded() {
        // 128 are open at once: the namespace, `sqlite` and 126 in it.
        assert_eq!((moved_up(126), moved_up(127)), (0, 1));
    }

    /// Runs `work` as an unprivileged user that owns everything below `home` except `locked`.
    fn as_an_unprivileged_user<T: Send>(home: &Path, locked: &Path, work: impl FnOnce() -> T + Send) -> T {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        fn give(path: &Path, uid: u32) {
            chown(path, Some(uid), None).expect("given");
            if path.is_dir() {
                std::fs::read_dir(path).expect("read").for_each(|entry| give(&entry.expect("an entry").path(), uid));
            }
        }
        const NOBODY: u32 = 65_534;
        let mode = |mode| std::fs::set_permissions(locked, std::fs::Permissions::from_mode(mode)).expect("changed");
        let root = rustix::process::geteuid().is_root();
        if root {
            give(home, NOBODY);
            chown(locked, Some(0), None).expect("given");
        }
        mode(if root { 0o755 } else { 0o500 });
        let result = std::thread::scope(|scope| {
            let work = move || {
                if root {
                    let nobody = rustix::process::Uid::from_raw(NOBODY);
                    // Only for this thread, which ends afterwards.
                    rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may");
                }
                work()
            };
            scope.spawn(work).join().expect("without a panic")
        });
        mode(0o700);
        result
    }

    #[test]
    fn entries_that_cannot_be_removed_are_named_and_the_rest_is_removed() {
        let scene = Scene::new();
        let sqlite = scene.base().join("sqlite");
        std::fs::create_dir_all(sqlite.join("locked/inner")).expect("made");
        std::fs::write(sqlite.join("file"), "1").expect("written");
        let aside = scene.aside();
        let place = scene.layout.home().root().join(aside.name());
        let (sqlite, locked) = (place.join("sqlite"), place.join("sqlite/locked"));
        let refused = as_an_unprivileged_user(scene.layout.home().root(), &locked, || {
            scene.layout.remove_aside(&aside).expect_err("locked")
        });
        let text = refused.to_string();
        assert!(text.starts_with(&format!("1 of the entries in {} could not be removed; ", place.display())), "{text}");
        assert!(text.contains(&format!("permission denied for {}/inner: the daemon runs", locked.display())), "{text}");
        assert!(text.contains("belongs to uid") && text.contains("restart the daemon"), "{text}");
        assert!(locked.join("inner").is_dir() && !sqlite.join("file").exists() && !place.join("run").exists());
        // The next start tries again.
        assert_eq!(scene.layout.settle_purges(7).expect("read"), std::slice::from_ref(&aside));
        let removed = scene.layout.remove_aside(&aside).expect("removed");
        assert_eq!(removed, Removed { directories: 4, files: 0, bytes: 0 });
        assert!(!place.exists());
    }

    #[test]
    fn failed_removals_of_a_directory_are_bounded() {
        let scene = Scene::new();
        let locked = scene.base().join("sqlite/locked");
        std::fs::create_dir(&locked).expect("made");
        for number in 0..2100 {
            std::fs::write(locked.join(number.to_string()), "").expect("written");
        }
        let aside = scene.aside();
        let place = scene.layout.home().root().join(aside.name());
        let refused = as_an_unprivileged_user(scene.layout.home().root(), &place.join("sqlite/locked"), || {
            scene.layout.remove_aside(&aside).expect_err("locked")
        });
        assert!(refused.to_string().starts_with("1024 of the entries in "), "{refused}");
    }

    #[test]
    fn an_interrupted_purge_is_finished_if_recorded_and_undone_if_not() {
        let scene = Scene::new();
        std::fs::write(scene.layout.home().root().join(".hecate-traderd.purged-x"), "another's").expect("written");
        scene.aside();
        assert_eq!(scene.layout.settle_purges(6).expect("read"), [], "it was not recorded");
        assert!(scene.base().join("sqlite").is_dir(), "so it is put back");
        scene.aside();
        // A namespace that was created meanwhile is not replaced.
        scene.layout.ensure(&scene.name, None).expect("made");
        assert_eq!(scene.layout.settle_purges(6).expect("read"), []);
        assert_eq!(scene.layout.settle_purges(7).expect("read"), [], "another event has its revision now");
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
