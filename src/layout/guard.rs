//! Checks whether home and the daemon's own namespace are still the opened ones, and restores
//! missing directories.
//!
//! The descriptor of home stays open. So its inode number is not reused, and nothing is ever
//! written into a directory that replaced it.

use std::io;
use std::path::PathBuf;

use super::create::Layout;
use super::error::LayoutError;
use super::own_files::Loss;
use super::paths::SUBDIRECTORIES;
use super::run_lock::RunError;
use crate::files::{Sight, found};

impl Layout {
    /// Compares the path of home with the directory that was opened.
    #[must_use]
    pub fn compare_home(&self) -> Sight {
        Sight::of(|home| home == self.root_inode(), found(std::fs::metadata(self.home().root())))
    }

    /// Checks that home is still there. Once home is lost, it remains lost for this process, even
    /// if it comes back, because a refused request must not take effect later.
    ///
    /// # Errors
    /// How it was lost.
    pub fn check_home(&self) -> Result<(), Loss> {
        if let Some(loss) = self.lost().get() {
            return Err(*loss);
        }
        let loss = match self.compare_home() {
            Sight::Ours | Sight::Unclear => return Ok(()),
            Sight::Missing => Loss::Gone,
            Sight::Foreign => Loss::Replaced,
        };
        Err(*self.lost().get_or_init(|| loss))
    }

    /// Returns the paths in the daemon's own namespace that are missing or are not directories, for
    /// example symbolic links.
    #[must_use]
    pub fn missing_own(&self) -> Vec<PathBuf> {
        let base = self.home().own().base().to_owned();
        let below = SUBDIRECTORIES.iter().map(|name| base.join(name));
        let mut all: Vec<PathBuf> = std::iter::once(base.clone()).chain(below).collect();
        all.retain(|path| match std::fs::symlink_metadata(path) {
            Ok(metadata) => !metadata.is_dir(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        });
        all
    }

    /// Creates the missing directories of the daemon's own namespace, and logs each. Home itself
    /// must exist, see [`Self::check_home`].
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn restore_own(&self) -> Result<(), LayoutError> {
        let missing = self.missing_own();
        if missing.is_empty() {
            return Ok(());
        }
        self.ensure_own()?;
        for path in missing {
            tracing::error!(directory = %path.display(), "the directory was removed while the daemon used it; created it again");
        }
        Ok(())
    }

    /// Returns whether the daemon's namespace is still the locked one. Always true for a layout
    /// without a lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        let sight = self.lock().map_or(Sight::Ours, |lock| lock.compare_base(self));
        matches!(sight, Sight::Ours | Sight::Unclear)
    }

    /// Creates the missing directories of the daemon's own namespace, and locks them.
    ///
    /// # Errors
    /// [`RunError::Held`] if another daemon serves the namespace. Nothing in it is changed then.
    pub fn reclaim_own(&self) -> Result<(), RunError> {
        if let Err(held @ RunError::Held { .. }) = self.renew_lock() {
            return Err(held);
        }
        self.restore_own()?;
        self.renew_lock()
    }

    fn renew_lock(&self) -> Result<(), RunError> {
        self.lock().map_or(Ok(()), |lock| lock.renew(self))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Home, Modes};
    use super::*;

    #[test]
    fn a_home_that_was_lost_stays_lost() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = dir.path().join("home");
        let layout = Layout::open(Home::new(root.clone()).expect("absolute"), Modes::default()).expect("opened");
        assert_eq!(layout.check_home(), Ok(()));
        std::fs::rename(&root, dir.path().join("moved")).expect("moved");
        std::fs::create_dir(&root).expect("made");
        assert_eq!(layout.check_home(), Err(Loss::Replaced));
        std::fs::remove_dir(&root).expect("removed");
        std::fs::rename(dir.path().join("moved"), &root).expect("moved back");
        assert_eq!(layout.compare_home(), Sight::Ours);
        assert_eq!(layout.check_home(), Err(Loss::Replaced), "a refused request must not take effect later");
    }

    #[test]
    fn missing_directories_are_created_again_but_home_is_not() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = dir.path().join("home");
        let layout = Layout::open(Home::new(root.clone()).expect("absolute"), Modes::default()).expect("opened");
        let own = layout.ensure_own().expect("made");
        assert_eq!(layout.missing_own(), Vec::<PathBuf>::new());
        std::fs::remove_dir_all(own.sockets()).expect("removed");
        assert_eq!(layout.missing_own(), [own.sockets()]);
        std::fs::remove_dir_all(own.base()).expect("removed");
        assert_eq!(layout.missing_own().len(), 6);
        layout.restore_own().expect("made again");
        std::fs::rename(own.sqlite(), own.base().join("moved")).expect("moved");
        std::os::unix::fs::symlink("moved", own.sqlite()).expect("linked");
        assert_eq!(layout.missing_own(), [own.sqlite()], "no link is followed");
        let refused = layout.restore_own().expect_err("the link is not replaced");
        assert!(matches!(&refused, LayoutError::SymbolicLink(path) if *path == own.sqlite()), "{refused}");
        std::fs::remove_file(own.sqlite()).expect("removed");
        layout.restore_own().expect("made again");
        assert_eq!(layout.missing_own(), Vec::<PathBuf>::new());
        std::fs::remove_dir_all(&root).expect("removed");
        assert_eq!(layout.check_home(), Err(Loss::Gone));
        layout.restore_own().expect_err("nowhere");
        assert!(!root.exists());
    }
}
