//! Tests that remove or replace the files of the database between two commits. The next commit must
//! be durable or refused, and earlier ones must be in the file that a later start opens.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::plugin::{Event, EventKind, Plugin, PluginName, Plugins, sample};
use crate::store::Opened;
use crate::store::schema;

struct Scene {
    dir: tempfile::TempDir,
    store: Option<Store>,
}

impl Scene {
    /// Creates a database with two plugins.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut store = Store::open(dir.path(), UNIX_EPOCH).expect("opens").store;
        store.commit(&[registered(1, "hecate-oned"), registered(2, "hecate-twod")]).expect("stored");
        Self { dir, store: Some(store) }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("open")
    }

    fn path(&self, tail: &str) -> PathBuf {
        self.dir.path().join(format!("{FILE}{tail}"))
    }

    fn remove(&self, tails: &[&str]) {
        for tail in tails {
            std::fs::remove_file(self.path(tail)).expect("it is there");
        }
    }

    fn commit(&mut self, revision: u64, name: &str) -> Result<(), CommitError> {
        self.store().commit(&[registered(revision, name)])
    }

    /// Opens copies of all files as they are now, as after a kill.
    fn after_a_crash(&self) -> Opened {
        let copy = tempfile::tempdir().expect("temporary directory");
        for tail in ["", WAL] {
            if self.path(tail).exists() {
                std::fs::copy(self.path(tail), copy.path().join(format!("{FILE}{tail}"))).expect("copied");
            }
        }
        let opened = Store::open(copy.path(), UNIX_EPOCH).expect("opens");
        assert_eq!(opened.set_aside, None, "it is sound");
        opened
    }

    /// Returns the number of plugins in each kept copy, in ascending order.
    fn kept(&self) -> Vec<usize> {
        let entries = std::fs::read_dir(self.dir.path()).expect("readable");
        let kept = entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.to_string_lossy().contains(".kept-"));
        let mut sizes: Vec<usize> =
            kept.map(|path| row::load(&Connection::open(path).expect("opens")).expect("readable").1.size()).collect();
        sizes.sort_unstable();
        sizes
    }

    /// Replaces the database by another one with a single plugin, which was closed before.
    fn restore_backup(&self, plugin: &str) {
        let backup = tempfile::tempdir().expect("temporary directory");
        let mut other = Store::open(backup.path(), UNIX_EPOCH).expect("opens").store;
        other.commit(&[registered(1, plugin)]).expect("stored");
        drop(other);
        std::fs::rename(backup.path().join(FILE), self.path("")).expect("moved");
    }

    fn holds(&self, names: &[&str], first_event: u64) {
        let opened = self.after_a_crash();
        let stored: Vec<&str> = opened.plugins.keys().map(PluginName::as_str).collect();
        assert_eq!(stored, names);
        let events = opened.store.events_after(first_event - 1).expect("readable").expect("known");
        let revisions: Vec<u64> = events.iter().map(|event| event.revision).collect();
        assert_eq!(revisions, (first_event..=opened.revision).collect::<Vec<_>>());
        let left = std::fs::read_dir(self.dir.path()).expect("readable").flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "no draft is left: {left:?}");
    }
}

fn registered(revision: u64, name: &str) -> Event {
    let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + revision);
    let plugin = Plugin {
        version: Some("0.1.0".into()),
        since: at,
        registered_at: at,
        incarnation: revision,
        ..sample::plugin(name)
    };
    Event { revision, at, kind: EventKind::Registered, plugin: Arc::new(plugin) }
}

#[test]
fn the_next_commit_is_durable_after_any_file_is_removed() {
    for gone in [&[""] as &[&str], &[WAL], &[SHM], &[WAL, SHM], &["", WAL], &["", WAL, SHM]] {
        let mut scene = Scene::new();
        scene.remove(gone);
        scene.commit(3, "hecate-threed").expect("stored");
        scene.holds(&["hecate-oned", "hecate-threed", "hecate-twod"], 1);
        scene.remove(gone);
        scene.store().settle().expect("restored without a commit");
        scene.holds(&["hecate-oned", "hecate-threed", "hecate-twod"], 1);
        scene.commit(4, "hecate-fourd").expect("stored");
        scene.store = None;
        scene.holds(&["hecate-fourd", "hecate-oned", "hecate-threed", "hecate-twod"], 1);
    }
}

#[test]
fn a_database_that_cannot_be_copied_is_written_from_memory() {
    let mut scene = Scene::new();
    scene.remove(&["", WAL, SHM]);
    scene.store().detach().expect("closed");
    scene.commit(3, "hecate-threed").expect("stored");
    // The first event is the last one before the copy, because it has the revision.
    scene.holds(&["hecate-oned", "hecate-threed", "hecate-twod"], 2);
}

#[test]
fn a_foreign_file_is_not_changed_and_commits_are_refused() {
    for tail in ["", WAL] {
        let mut scene = Scene::new();
        scene.remove(&["", WAL, SHM]);
        std::fs::write(scene.path(tail), "another's").expect("written");
        for _ in 0..2 {
            let refused = scene.commit(3, "hecate-threed").expect_err("it would be lost");
            assert!(refused.to_string().contains(scene.path(tail).to_str().expect("text")), "{refused}");
        }
        assert_eq!(std::fs::read_to_string(scene.path(tail)).expect("there"), "another's");
        assert_eq!(scene.kept(), [2], "one copy of the committed state is kept");

        std::fs::remove_file(scene.path(tail)).expect("moved away");
        scene.commit(3, "hecate-threed").expect("stored");
        scene.holds(&["hecate-oned", "hecate-threed", "hecate-twod"], 1);
    }
}

#[test]
fn a_backup_that_replaced_the_database_is_opened_unchanged() {
    let mut scene = Scene::new();
    scene.restore_backup("hecate-oldd");
    scene.commit(3, "hecate-threed").expect_err("it would be lost");
    // After a kill, and after a clean end.
    scene.holds(&["hecate-oldd"], 1);
    scene.store = None;
    scene.holds(&["hecate-oldd"], 1);
    assert_eq!(scene.kept(), [2]);
}

#[test]
fn the_log_is_kept_until_a_copy_of_the_state_is_kept() {
    let mut scene = Scene::new();
    scene.restore_backup("hecate-oldd");
    scene.store().backoff.failed(Instant::now());
    scene.store().settle().expect_err("it was replaced");
    assert!(scene.kept().is_empty() && scene.path(WAL).exists());
    scene.store().retry_at_once();
    scene.store().settle().expect_err("it was replaced");
    assert_eq!(scene.kept(), [2]);
    assert!(!scene.path(WAL).exists() && !scene.path(SHM).exists());
}

#[test]
fn a_database_that_is_moved_back_is_used_again() {
    let mut scene = Scene::new();
    std::fs::rename(scene.path(""), scene.path(".ours")).expect("moved");
    scene.restore_backup("hecate-oldd");
    scene.store().settle().expect_err("it was replaced");
    std::fs::rename(scene.path(".ours"), scene.path("")).expect("moved back");
    scene.commit(3, "hecate-threed").expect("stored");
    scene.holds(&["hecate-oned", "hecate-threed", "hecate-twod"], 1);
}

#[test]
fn a_copy_of_the_state_is_kept_at_each_replacement() {
    for tail in ["", WAL] {
        let mut scene = Scene::new();
        for (revision, name) in [(3, "hecate-threed"), (4, "hecate-fourd")] {
            // Moved back later as the same file.
            std::fs::rename(scene.path(tail), scene.path(".ours")).expect("moved");
            std::fs::write(scene.path(tail), "another's").expect("written");
            scene.store().settle().expect_err("it was replaced");
            std::fs::rename(scene.path(".ours"), scene.path(tail)).expect("moved back");
            scene.commit(revision, name).expect("stored");
        }
        assert_eq!(scene.kept(), [2, 3], "{tail:?}");
    }
}

#[test]
fn a_commit_that_was_refused_afterwards_is_undone() {
    let mut scene = Scene::new();
    scene.commit(3, "hecate-threed").expect("stored");
    // As if the files were removed after the transaction, and restored before the next one.
    let store = scene.store();
    store.try_commit(&[registered(4, "hecate-refusedd")]).expect("stored");
    store.is_unsure = true;
    scene.commit(4, "hecate-fourd").expect("the revision is free");
    scene.holds(&["hecate-fourd", "hecate-oned", "hecate-threed", "hecate-twod"], 1);
}

#[test]
fn commits_are_refused_while_the_directory_is_missing() {
    let mut scene = Scene::new();
    let dir = scene.dir.path().to_owned();
    std::fs::remove_dir_all(&dir).expect("removed");
    scene.commit(3, "hecate-threed").expect_err("nowhere");
    std::fs::create_dir(&dir).expect("made");
    scene.commit(3, "hecate-threed").expect("stored");
    scene.holds(&["hecate-oned", "hecate-threed", "hecate-twod"], 1);
}

#[test]
fn a_revision_without_an_event_is_written_from_memory() {
    let mut connection = Connection::open_in_memory().expect("opens");
    schema::migrate(&mut connection).expect("made");
    let contents = Contents { plugins: Plugins::default(), revision: 12_345, last: None };
    assert!(reconcile(&mut connection, &contents).expect("written"), "the database was empty");
    assert_eq!(row::load(&connection).expect("read").0, 12_345);
    assert!(!reconcile(&mut connection, &contents).expect("compared"), "the database is up to date");
}

#[test]
fn a_draft_does_not_replace_files_of_another_process() {
    for tail in ["", WAL] {
        let mut scene = Scene::new();
        scene.remove(&["", WAL, SHM]);
        let (draft, _) = scene.store().write_draft().expect("written");
        std::fs::write(scene.path(tail), "another's").expect("written");
        let refused = scene.store().place_draft(&draft).expect_err("the files changed");
        assert!(matches!(refused, Failure::Changed), "{refused}");
        assert_eq!(std::fs::read_to_string(scene.path(tail)).expect("there"), "another's");
    }
}

#[test]
fn only_the_recorded_files_beside_the_database_are_removed() {
    let mut scene = Scene::new();
    scene.remove(&[""]);
    std::fs::rename(scene.path(WAL), scene.path(".moved")).expect("moved");
    std::fs::write(scene.path(WAL), "another's").expect("written");
    let path = Arc::clone(&scene.store().path);
    scene.store().files.remove_beside(&path).expect("removed");
    assert_eq!(std::fs::read_to_string(scene.path(WAL)).expect("there"), "another's");
    assert!(!scene.path(SHM).exists());
}

#[test]
fn a_failed_copy_delays_the_next_one_until_it_is_forced() {
    let mut scene = Scene::new();
    scene.remove(&["", WAL, SHM]);
    // As after many failures, so that the next attempt is due in 30 s.
    (0..10).for_each(|_| scene.store().backoff.failed(Instant::now()));
    let refused = scene.commit(3, "hecate-threed").expect_err("it is delayed");
    assert!(refused.to_string().contains("the last attempt failed"), "{refused}");
    scene.store().retry_at_once();
    scene.commit(3, "hecate-threed").expect("stored");
    scene.holds(&["hecate-oned", "hecate-threed", "hecate-twod"], 1);
}

#[test]
fn closing_a_replaced_database_keeps_the_log_of_the_other() {
    let mut scene = Scene::new();
    let moved = tempfile::tempdir().expect("temporary directory");
    for tail in ["", WAL, SHM] {
        std::fs::rename(scene.path(tail), moved.path().join(format!("{FILE}{tail}"))).expect("moved");
    }
    let mut other = Store::open(scene.dir.path(), UNIX_EPOCH).expect("opens").store;
    other.commit(&[registered(1, "hecate-otherd")]).expect("stored");
    scene.store = None;
    assert!(other.is_intact(), "none of its files is removed");
    scene.holds(&["hecate-otherd"], 1);
}
