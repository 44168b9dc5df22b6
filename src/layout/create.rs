//! Makes the directories of namespaces, and opens them.
//!
//! Owns the one descriptor of home through which everything below is reached: no path below home is ever resolved
//! from the root again, and no symbolic link below it is followed (`openat2(2)` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`). Never changes the mode or the owner of a directory that it did not make, and never removes
//! one that holds anything.

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

/// What new directories get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Permission bits, whatever the umask says.
    pub dir: u32,
    /// Group, where it is not to be the process's own.
    pub group: Option<u32>,
}

impl Default for Modes {
    /// For our own user only.
    fn default() -> Self {
        Self { dir: 0o700, group: None }
    }
}

/// Whom a new namespace is given to. Only root can give anything away: for others this changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group, unless [`Modes::group`] names one.
    pub gid: u32,
}

/// Home, opened.
#[derive(Debug)]
pub struct Layout {
    home: Home,
    root: OwnedFd,
    root_inode: Inode,
    modes: Modes,
    /// Set once home is found missing or replaced.
    lost: OnceLock<Loss>,
    /// Our lock, while it lives.
    lock: Mutex<Weak<RunLock>>,
}

impl Layout {
    /// Opens home, and makes it if it is missing. Links on the way to home are the user's own business.
    ///
    /// # Errors
    /// Home can neither be opened nor made.
    pub fn open(home: Home, modes: Modes) -> Result<Self, LayoutError> {
        let root = home.root();
        let open = |path: &Path| fs::open(path, DIRECTORY, Mode::empty());
        let fd = match (open(root), root.parent(), root.file_name()) {
            (Err(Errno::NOENT), Some(parent), Some(name)) => {
                std::fs::create_dir_all(parent).map_err(|source| io_error("make", parent, source))?;
                let above = open(parent).map_err(|errno| io_error("open", parent, errno.into()))?;
                modes.make(above.as_fd(), parent, name, None)?;
                open(root).map_err(|errno| io_error("open", root, errno.into()))?
            }
            (Err(Errno::NOTDIR), ..) => return Err(LayoutError::NotADirectory(root.to_owned())),
            (opened, ..) => opened.map_err(|errno| io_error("open", root, errno.into()))?,
        };
        let stat = fs::fstat(&fd).map_err(|errno| io_error("look at", root, errno.into()))?;
        let root_inode = Inode::from(&stat);
        Ok(Self { home, root: fd, root_inode, modes, lost: OnceLock::new(), lock: Mutex::default() })
    }

    /// Returns the inode of home.
    pub(super) fn root_inode(&self) -> Inode {
        self.root_inode
    }

    /// How home was lost, if it was.
    pub(super) fn lost(&self) -> &OnceLock<Loss> {
        &self.lost
    }

    /// Our lock; none if it was never taken, or is released.
    pub(super) fn lock(&self) -> Option<Arc<RunLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Remembers our lock.
    pub(super) fn locked_by(&self, lock: &Arc<RunLock>) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(lock);
    }

    /// The paths.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Makes what is missing of our own namespace.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn ensure_own(&self) -> Result<Namespace, LayoutError> {
        self.ensure_named(self.home.own_name(), None)?;
        Ok(self.home.own())
    }

    /// Makes what is missing of a plugin's namespace. A namespace that is new is given to `owner`; what is made in one
    /// that exists, to the one it belongs to.
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
        let made = self.modes.make(self.root.as_fd(), root, name, owner)?;
        let fd = open_below(self.root.as_fd(), root, Path::new(name), DIRECTORY)?;
        let owner = if made { owner } else { Some(owner_of(fd.as_fd(), &base)?) };
        for sub in SUBDIRECTORIES {
            self.modes.make(fd.as_fd(), &base, OsStr::new(sub), owner)?;
        }
        Ok(())
    }

    /// Whether the namespaces of plugins can be made beside ours, as far as it shows without making one.
    ///
    /// # Errors
    /// Why not, or why nobody may see them.
    pub fn check_siblings(&self) -> Result<(), SiblingError> {
        let root = self.home.root();
        let access = fs::Access::WRITE_OK | fs::Access::EXEC_OK;
        fs::accessat(&self.root, ".", access, AtFlags::EACCESS)
            .map_err(|errno| explain("make", self.root.as_fd(), root, Path::new("<plugin>"), errno))?;
        let own = open_below(self.root.as_fd(), root, Path::new(self.home.own_name()), DIRECTORY)?;
        match (mount_of(&self.root), mount_of(&own)) {
            (Some(home), Some(ours)) if home != ours => {
                Err(SiblingError::Apart { own: self.home.own().base().to_owned(), home: root.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Opens `run/` of our own namespace, to be read and locked.
    pub(super) fn own_run(&self) -> Result<OwnedFd, LayoutError> {
        let path = Path::new(self.home.own_name()).join(RUN);
        open_below(self.root.as_fd(), self.home.root(), &path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens our own namespace, to be locked.
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

    /// Home itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What the system said about something below home.
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

/// A directory as a place to work in: neither read nor changed itself.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Modes {
    /// Makes `name` in `parent`, unless there is such a directory. Tells whether it did.
    fn make(
        &self,
        parent: BorrowedFd<'_>,
        parent_path: &Path,
        name: &OsStr,
        owner: Option<Owner>,
    ) -> Result<bool, LayoutError> {
        let made = match fs::mkdirat(parent, name, Mode::from_raw_mode(self.dir)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(explain("make", parent, parent_path, Path::new(name), errno)),
        };
        let probed = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        let dressed = probed.map_err(|errno| ("look at", errno)).and_then(|stat| {
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {}
                FileType::Symlink => return Err(("open", Errno::LOOP)),
                _ => return Err(("open", Errno::NOTDIR)),
            }
            // Most often it is as it should be, which saves opening it.
            if !made || self.is_dressed(&stat, owner) {
                return Ok(());
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = open_at(parent, Path::new(name), flags, Mode::empty()).map_err(|errno| ("open", errno))?;
            self.dress(fd.as_fd(), owner).map_err(|errno| ("give away", errno))
        });
        dressed.map_err(|(doing, errno)| {
            if made {
                // Left as it is it would pass for a directory that somebody else made, and never be put right. It is empty,
                // or it stays: `rmdir` removes nothing else.
                let _ = fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
            }
            explain(doing, parent, parent_path, Path::new(name), errno)
        })?;
        Ok(made)
    }

    /// Whom a directory is to be given to: only root can give.
    fn recipient(&self, owner: Option<Owner>) -> (Option<u32>, Option<u32>) {
        let owner = owner.filter(|_| rustix::process::geteuid().is_root());
        (owner.map(|owner| owner.uid), self.group.or(owner.map(|owner| owner.gid)))
    }

    /// Whether a directory has its owner, group and mode.
    fn is_dressed(&self, stat: &fs::Stat, owner: Option<Owner>) -> bool {
        let (uid, gid) = self.recipient(owner);
        uid.is_none_or(|uid| uid == stat.st_uid)
            && gid.is_none_or(|gid| gid == stat.st_gid)
            && stat.st_mode & 0o7777 == self.dir
    }

    /// Gives a directory that we have just made its owner, group and mode.
    fn dress(&self, fd: BorrowedFd<'_>, owner: Option<Owner>) -> rustix::io::Result<()> {
        let (uid, gid) = self.recipient(owner);
        if uid.is_some() || gid.is_some() {
            fs::fchown(fd, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?;
        }
        // The umask has had its say in `mkdir`, and a change of owner clears bits: so the mode comes last.
        fs::fchmod(fd, Mode::from_raw_mode(self.dir))
    }
}

/// The number of the mount that a directory is on. Kernels before 5.8 don't say it.
fn mount_of(fd: &OwnedFd) -> Option<u64> {
    let stat = fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID).then_some(stat.stx_mnt_id)
}

fn owner_of(fd: BorrowedFd<'_>, path: &Path) -> Result<Owner, LayoutError> {
    let stat = fs::fstat(fd).map_err(|errno| io_error("look at", path, errno.into()))?;
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

        /// A directory outside of home that a link may point to.
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
        // Bits that every usual umask takes away.
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
            // `join("")` ends in a slash, and such a link would be followed by the test itself.
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
        // What is missing later goes to whom the namespace belongs, whoever registers.
        std::fs::remove_dir(namespace.run()).expect("removed");
        scene.layout.ensure(&scene.name, Some(Owner { uid: 77, gid: 77 })).expect("made");
        assert_eq!(owner_now(&namespace.run()), expected);
        assert_eq!(owner_now(scene.layout.home().root()), me.as_raw());
    }

    #[test]
    fn a_denied_permission_names_path_user_and_mode() {
        let scene = Scene::new(Modes { dir: 0o750, group: None });
        let root = scene.layout.home().root();
        let error = explain("make", scene.layout.root.as_fd(), root, Path::new("hecate-traderd"), Errno::ACCESS);
        let me = rustix::process::geteuid().as_raw();
        let text = error.to_string();
        for part in [format!("{}/hecate-traderd", root.display()), format!("uid {me}"), "mode 0750".to_owned()] {
            assert!(text.contains(&part), "{part:?} is missing in {text:?}");
        }
    }
}
