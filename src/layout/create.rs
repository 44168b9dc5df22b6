//! Creates and opens the directories of namespaces.
//!
//! Everything below home is opened relative to one descriptor of home, and no symbolic link below
//! home is followed (`openat2(2)` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`). The mode and
//! the owner of a directory that existed before are never changed, and only empty directories are
//! removed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, StatxFlags, Uid};
use rustix::io::Errno;

use super::error::{LayoutError, SiblingError};
use super::open::open_at;
use super::own_files::Loss;
use super::paths::{CONNECTORS, Home, Namespace, RUN, SOCKETS, SUBDIRECTORIES};
use super::run_lock::RunLock;
use crate::files::Inode;
use crate::plugin::PluginName;

/// The mode and group of new directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// The permission bits, independent of the umask.
    pub dir: u32,
    /// The group, if it is not the process's own.
    pub group: Option<u32>,
}

impl Default for Modes {
    /// Returns modes that permit only the process's own user.
    fn default() -> Self {
        Self { dir: 0o700, group: None }
    }
}

/// The owner of a new namespace. Only root can set it; it has no effect for other users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user id.
    pub uid: u32,
    /// The group id, unless [`Modes::group`] is set.
    pub gid: u32,
}

/// The open home directory.
#[derive(Debug)]
pub struct Layout {
    home: Home,
    root: OwnedFd,
    root_inode: Inode,
    modes: Modes,
    /// Set once home is found to be missing or replaced.
    lost: OnceLock<Loss>,
    /// The daemon's lock, while it exists.
    lock: Mutex<Weak<RunLock>>,
}

impl Layout {
    /// Opens home, and creates it if it is missing. Symbolic links in the path of home are
    /// followed.
    ///
    /// # Errors
    /// Home can neither be opened nor created.
    pub fn open(home: Home, modes: Modes) -> Result<Self, LayoutError> {
        let root = home.root();
        let open = |path: &Path| fs::open(path, DIRECTORY, Mode::empty());
        let fd = match (open(root), root.parent(), root.file_name()) {
            (Err(Errno::NOENT), Some(parent), Some(name)) => {
                std::fs::create_dir_all(parent).map_err(|source| io_error("create", parent, source))?;
                let above = open(parent).map_err(|errno| io_error("open", parent, errno.into()))?;
                modes.create(above.as_fd(), parent, name, None)?;
                open(root).map_err(|errno| io_error("open", root, errno.into()))?
            }
            (Err(Errno::NOTDIR), ..) => return Err(LayoutError::NotADirectory(root.to_owned())),
            (opened, ..) => opened.map_err(|errno| io_error("open", root, errno.into()))?,
        };
        let stat = fs::fstat(&fd).map_err(|errno| io_error("check", root, errno.into()))?;
        let root_inode = Inode::from(&stat);
        Ok(Self { home, root: fd, root_inode, modes, lost: OnceLock::new(), lock: Mutex::default() })
    }

    /// Returns the inode of home.
    pub(super) fn root_inode(&self) -> Inode {
        self.root_inode
    }

    /// Returns how home was lost, if it was.
    pub(super) fn lost(&self) -> &OnceLock<Loss> {
        &self.lost
    }

    /// Returns the daemon's lock. None before it was acquired and after it was released.
    pub(super) fn lock(&self) -> Option<Arc<RunLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Sets the daemon's lock.
    pub(super) fn set_lock(&self, lock: &Arc<RunLock>) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(lock);
    }

    /// Returns the paths below home.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Creates the missing directories of the daemon's own namespace.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn ensure_own(&self) -> Result<Namespace, LayoutError> {
        self.ensure_named(self.home.own_name(), None)?;
        Ok(self.home.own())
    }

    /// Creates the missing directories of a plugin's namespace. A new namespace gets `owner`. In an
    /// existing namespace, new directories get the owner of the namespace.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn ensure(&self, name: &PluginName, owner: Option<Owner>) -> Result<Namespace, LayoutError> {
        self.ensure_named(OsStr::new(name.as_str()), owner)?;
        Ok(self.home.namespace(name))
    }

    fn ensure_named(&self, name: &OsStr, owner: Option<Owner>) -> Result<(), LayoutError> {
        let root = self.home.root();
        let base = root.join(name);
        let is_new = self.modes.create(self.root.as_fd(), root, name, owner)?;
        let fd = open_below(self.root.as_fd(), root, Path::new(name), DIRECTORY)?;
        let owner = if is_new { owner } else { Some(owner_of(fd.as_fd(), &base)?) };
        for sub in SUBDIRECTORIES {
            self.modes.create(fd.as_fd(), &base, OsStr::new(sub), owner)?;
        }
        Ok(())
    }

    /// Checks whether the namespaces of plugins can be created in home, without creating one.
    ///
    /// # Errors
    /// They cannot be created, or plugins may not see them.
    pub fn check_siblings(&self) -> Result<(), SiblingError> {
        let root = self.home.root();
        let access = fs::Access::WRITE_OK | fs::Access::EXEC_OK;
        fs::accessat(&self.root, ".", access, AtFlags::EACCESS)
            .map_err(|errno| explain("create", self.root.as_fd(), root, Path::new("<plugin>"), errno))?;
        let own = open_below(self.root.as_fd(), root, Path::new(self.home.own_name()), DIRECTORY)?;
        match (mount_of(&self.root), mount_of(&own)) {
            (Some(home_mount), Some(own_mount)) if home_mount != own_mount => {
                Err(SiblingError::Apart { own: self.home.own().base().to_owned(), home: root.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Opens `run/` of the daemon's own namespace, for reading and locking.
    pub(super) fn own_run(&self) -> Result<OwnedFd, LayoutError> {
        let path = Path::new(self.home.own_name()).join(RUN);
        open_below(self.root.as_fd(), self.home.root(), &path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the daemon's own namespace, for locking.
    pub(super) fn own_base(&self) -> Result<OwnedFd, LayoutError> {
        let path = Path::new(self.home.own_name());
        open_below(self.root.as_fd(), self.home.root(), path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens `run/` of a plugin.
    pub(super) fn run(&self, name: &PluginName) -> Result<OwnedFd, LayoutError> {
        let path = Path::new(name.as_str()).join(RUN);
        open_below(self.root.as_fd(), self.home.root(), &path, DIRECTORY)
    }

    /// Opens the namespace of a plugin.
    pub(super) fn namespace(&self, name: &PluginName) -> Result<OwnedFd, LayoutError> {
        open_below(self.root(), self.home.root(), Path::new(name.as_str()), DIRECTORY)
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Returns the error for a failed system call on a path below home.
    pub(super) fn explain_below(&self, doing: &'static str, path: &Path, errno: Errno) -> LayoutError {
        explain(doing, self.root(), self.home.root(), path, errno)
    }

    /// Opens `connectors/` of a plugin.
    pub(super) fn connectors(&self, name: &PluginName) -> Result<OwnedFd, LayoutError> {
        open_below(self.root(), self.home.root(), &Path::new(name.as_str()).join(CONNECTORS), DIRECTORY)
    }

    /// Opens `sockets/` of a plugin.
    pub(super) fn sockets(&self, name: &PluginName) -> Result<OwnedFd, LayoutError> {
        let path = Path::new(name.as_str()).join(SOCKETS);
        open_below(self.root.as_fd(), self.home.root(), &path, DIRECTORY)
    }
}

/// Opens a directory only as the base of further paths, not for reading.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Modes {
    /// Creates the directory `name` in `parent`, unless it exists. Returns whether it is new.
    fn create(
        &self,
        parent: BorrowedFd<'_>,
        parent_path: &Path,
        name: &OsStr,
        owner: Option<Owner>,
    ) -> Result<bool, LayoutError> {
        let is_new = match fs::mkdirat(parent, name, Mode::from_raw_mode(self.dir)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(explain("create", parent, parent_path, Path::new(name), errno)),
        };
        let probed = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        let result = probed.map_err(|errno| ("check", errno)).and_then(|stat| {
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {}
                FileType::Symlink => return Err(("open", Errno::LOOP)),
                _ => return Err(("open", Errno::NOTDIR)),
            }
            // In most cases its attributes are right, and it need not be opened.
            if !is_new || self.has_attributes(&stat, owner) {
                return Ok(());
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = open_at(parent, Path::new(name), flags, Mode::empty()).map_err(|errno| ("open", errno))?;
            self.set_attributes(fd.as_fd(), owner).map_err(|errno| ("set the owner and mode of", errno))
        });
        result.map_err(|(doing, errno)| {
            if is_new {
                // Otherwise the next attempt would take it for an existing directory, whose
                // attributes are not changed. `rmdir` removes it only if it is empty.
                let _ = fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
            }
            explain(doing, parent, parent_path, Path::new(name), errno)
        })?;
        Ok(is_new)
    }

    /// Returns the user and group to set for a new directory. Only root can set the user.
    fn owner_to_set(&self, owner: Option<Owner>) -> (Option<u32>, Option<u32>) {
        let owner = owner.filter(|_| rustix::process::geteuid().is_root());
        (owner.map(|owner| owner.uid), self.group.or(owner.map(|owner| owner.gid)))
    }

    /// Returns whether a directory has the right owner, group and mode.
    fn has_attributes(&self, stat: &fs::Stat, owner: Option<Owner>) -> bool {
        let (uid, gid) = self.owner_to_set(owner);
        uid.is_none_or(|uid| uid == stat.st_uid)
            && gid.is_none_or(|gid| gid == stat.st_gid)
            && stat.st_mode & 0o7777 == self.dir
    }

    /// Sets the owner, group and mode of a new directory.
    fn set_attributes(&self, fd: BorrowedFd<'_>, owner: Option<Owner>) -> rustix::io::Result<()> {
        let (uid, gid) = self.owner_to_set(owner);
        if uid.is_some() || gid.is_some() {
            fs::fchown(fd, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?;
        }
        // Last, because `mkdir` applied the umask, and a change of owner clears bits of the mode.
        fs::fchmod(fd, Mode::from_raw_mode(self.dir))
    }
}

/// Returns the id of the mount that a directory is on. None on kernels before 5.8.
fn mount_of(fd: &OwnedFd) -> Option<u64> {
    let stat = fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID).then_some(stat.stx_mnt_id)
}

fn owner_of(fd: BorrowedFd<'_>, path: &Path) -> Result<Owner, LayoutError> {
    let stat = fs::fstat(fd).map_err(|errno| io_error("check", path, errno.into()))?;
    Ok(Owner { uid: stat.st_uid, gid: stat.st_gid })
}

fn open_below(dir: BorrowedFd<'_>, dir_path: &Path, path: &Path, flags: OFlags) -> Result<OwnedFd, LayoutError> {
    open_at(dir, path, flags, Mode::empty()).map_err(|errno| explain("open", dir, dir_path, path, errno))
}

pub(super) fn explain(
    doing: &'static str,
    parent: BorrowedFd<'_>,
    parent_path: &Path,
    name: &Path,
    errno: Errno,
) -> LayoutError {
    let path = parent_path.join(name);
    match errno {
        Errno::LOOP => LayoutError::SymbolicLink(path),
        Errno::NOTDIR => LayoutError::NotADirectory(path),
        Errno::ACCESS | Errno::PERM => match fs::fstat(parent) {
            Ok(stat) => LayoutError::Permission {
                path,
                uid: rustix::process::geteuid().as_raw(),
                parent: parent_path.to_owned(),
                owner: stat.st_uid,
                mode: stat.st_mode & 0o7777,
            },
            Err(_) => io_error(doing, &path, errno.into()),
        },
        _ => io_error(doing, &path, errno.into()),
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> LayoutError {
    LayoutError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use std::path::PathBuf;

    use super::*;
    use crate::plugin::sample;

    struct Scene {
        dir: tempfile::TempDir,
        layout: Layout,
        name: PluginName,
    }

    impl Scene {
        fn new(modes: Modes) -> Self {
            let dir = tempfile::tempdir().expect("temporary directory");
            let home = Home::new(dir.path().join("home")).expect("absolute");
            let layout = Layout::open(home, modes).expect("home can be made");
            let name = sample::name("hecate-traderd");
            Self { dir, layout, name }
        }

        fn namespace(&self) -> Namespace {
            self.layout.home().namespace(&self.name)
        }

        fn ensure(&self) -> Result<Namespace, LayoutError> {
            self.layout.ensure(&self.name, None)
        }

        /// Creates a directory outside home, as the target of a link.
        fn outside(&self) -> PathBuf {
            let outside = self.dir.path().join("outside");
            std::fs::create_dir(&outside).expect("made");
            outside
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("exists").permissions().mode() & 0o7777
    }

    fn entries(path: &Path) -> usize {
        std::fs::read_dir(path).expect("a directory").count()
    }

    #[test]
    fn a_namespace_has_its_five_directories_with_their_mode() {
        // A usual umask clears some of these bits.
        let scene = Scene::new(Modes { dir: 0o2777, group: None });
        let namespace = scene.ensure().expect("made");
        assert_eq!(namespace, scene.namespace());
        for sub in SUBDIRECTORIES {
            assert_eq!(mode(&namespace.base().join(sub)), 0o2777, "{sub}");
        }
        assert_eq!(mode(namespace.base()), 0o2777);
        assert_eq!(entries(namespace.base()), 5);
        let own = scene.layout.ensure_own().expect("made");
        assert_eq!(entries(own.base()), 5);
    }

    #[test]
    fn home_is_made_with_its_mode_and_found_again() {
        let scene = Scene::new(Modes::default());
        assert_eq!(mode(scene.layout.home().root()), 0o700);
        Layout::open(scene.layout.home().clone(), Modes { dir: 0o755, group: None }).expect("opened");
        assert_eq!(mode(scene.layout.home().root()), 0o700);
    }

    #[test]
    fn home_itself_may_be_behind_a_link() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(dir.path().join("real")).expect("made");
        symlink("real", dir.path().join("home")).expect("linked");
        let home = Home::new(dir.path().join("home")).expect("absolute");
        let layout = Layout::open(home, Modes::default()).expect("opened");
        layout.ensure_own().expect("made");
        assert!(dir.path().join("real/hecate-daemon/sockets").is_dir());
    }

    #[test]
    fn a_file_is_no_home() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join("home"), "").expect("written");
        let home = Home::new(dir.path().join("home")).expect("absolute");
        let refused = Layout::open(home, Modes::default());
        assert!(matches!(refused, Err(LayoutError::NotADirectory(_))), "{refused:?}");
    }

    #[test]
    fn what_exists_stays_as_it_is() {
        let scene = Scene::new(Modes::default());
        let namespace = scene.namespace();
        let sockets = namespace.sockets();
        std::fs::create_dir_all(&sockets).expect("made");
        std::fs::write(sockets.join("a"), "kept").expect("written");
        for path in [namespace.base(), &sockets] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o751)).expect("changed");
        }
        scene.ensure().expect("made");
        scene.ensure().expect("made again");
        assert_eq!((mode(namespace.base()), mode(&sockets)), (0o751, 0o751));
        assert_eq!(mode(&namespace.run()), 0o700);
        assert_eq!(std::fs::read_to_string(sockets.join("a")).expect("there"), "kept");
    }

    #[test]
    fn no_link_is_followed_wherever_it_lies() {
        for place in std::iter::once("").chain(SUBDIRECTORIES) {
            let scene = Scene::new(Modes::default());
            let outside = scene.outside();
            let planted = scene.namespace().base().join(place);
            // `join("")` ends in a slash, with which the test itself would follow the link.
            let planted = PathBuf::from(planted.to_str().expect("text").trim_end_matches('/'));
            std::fs::create_dir_all(planted.parent().expect("has one")).expect("made");
            symlink(&outside, &planted).expect("linked");
            match scene.ensure() {
                Err(LayoutError::SymbolicLink(path)) => assert_eq!(path, planted),
                other => panic!("{place:?}: {other:?}"),
            }
            assert_eq!(entries(&outside), 0, "{place:?}");
            assert!(planted.is_symlink());
        }
    }

    #[test]
    fn a_dangling_link_and_one_inside_home_are_links_as_well() {
        for target in ["nowhere", "hecate-otherd"] {
            let scene = Scene::new(Modes::default());
            scene.layout.ensure(&sample::name("hecate-otherd"), None).expect("made");
            symlink(target, scene.namespace().base()).expect("linked");
            let refused = scene.ensure();
            assert!(matches!(refused, Err(LayoutError::SymbolicLink(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_file_in_place_of_a_directory_is_named() {
        for place in std::iter::once("").chain(SUBDIRECTORIES) {
            let scene = Scene::new(Modes::default());
            let planted = scene.namespace().base().join(place);
            let planted = PathBuf::from(planted.to_str().expect("text").trim_end_matches('/'));
            std::fs::create_dir_all(planted.parent().expect("has one")).expect("made");
            std::fs::write(&planted, "kept").expect("written");
            let refused = scene.ensure().expect_err("a file is in the way");
            assert!(matches!(&refused, LayoutError::NotADirectory(path) if *path == planted), "{refused:?}");
            assert!(refused.to_string().contains(planted.to_str().expect("text")), "{refused}");
            assert_eq!(std::fs::read_to_string(&planted).expect("there"), "kept");
        }
    }

    #[test]
    fn a_new_namespace_is_given_away_by_root_alone() {
        let scene = Scene::new(Modes::default());
        let me = rustix::process::geteuid();
        let owner = Owner { uid: 4321, gid: 4322 };
        let namespace = scene.layout.ensure(&scene.name, Some(owner)).expect("made");
        let owner_now = |path: &Path| std::fs::metadata(path).expect("exists").uid();
        let expected = if me.is_root() { 4321 } else { me.as_raw() };
        assert_eq!(owner_now(namespace.base()), expected);
        assert_eq!(owner_now(&namespace.run()), expected);
        // A directory that is created later gets the owner of the namespace.
        std::fs::remove_dir(namespace.run()).expect("removed");
        scene.layout.ensure(&scene.name, Some(Owner { uid: 77, gid: 77 })).expect("made");
        assert_eq!(owner_now(&namespace.run()), expected);
        assert_eq!(owner_now(scene.layout.home().root()), me.as_raw());
    }

    #[test]
    fn a_denied_permission_names_path_user_and_mode() {
        let scene = Scene::new(Modes { dir: 0o750, group: None });
        let root = scene.layout.home().root();
        let error = explain("create", scene.layout.root.as_fd(), root, Path::new("hecate-traderd"), Errno::ACCESS);
        let me = rustix::process::geteuid().as_raw();
        let text = error.to_string();
        for part in [format!("{}/hecate-traderd", root.display()), format!("uid {me}"), "mode 0750".to_owned()] {
            assert!(text.contains(&part), "{part:?} is missing in {text:?}");
        }
    }
}
