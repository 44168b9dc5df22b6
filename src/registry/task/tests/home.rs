//! Tests of the registry while the daemon's own files are replaced or removed.

use super::*;

#[tokio::test]
async fn a_replaced_database_is_reported_until_it_is_moved_away() {
    let world = World::new();
    world.register("hecate-oned").await.expect("stored");
    let database = world.path("hecate-daemon", "sqlite/plugins.db");
    let replace = || {
        std::fs::rename(&database, database.with_file_name("ours")).expect("moved");
        std::fs::write(&database, "another's").expect("written");
    };
    replace();
    // The first check only notes that a file is missing.
    assert_eq!(world.handle.check_files().await.expect("it is running"), FileCheck::Missing);
    for _ in 0..3 {
        assert_eq!(world.handle.check_files().await.expect("it is running"), FileCheck::Failed);
        // The answer to this follows the view of the check.
        world.handle.ping().await.expect("it is running");
        let view = world.handle.view();
        assert!(view.unsaved.is_some() && view.is_lost);
    }
    std::fs::rename(database.with_file_name("ours"), &database).expect("moved back");
    assert_eq!(world.handle.check_files().await.expect("it is running"), FileCheck::Intact);
    let view = world.handle.view();
    assert!(view.unsaved.is_none() && !view.is_lost);

    // A refused registration reports it too, and a stored one clears the report.
    replace();
    assert_eq!(code(world.register("hecate-twod").await), "store_failed");
    // Only observations would be tried again.
    tokio::time::pause();
    tokio::time::advance(2 * COMMIT_RETRY).await;
    world.handle.ping().await.expect("it is running");
    world.handle.ping().await.expect("it is running");
    tokio::time::resume();
    assert!(world.handle.view().unsaved.is_some());
    std::fs::rename(database.with_file_name("ours"), &database).expect("moved back");
    world.register("hecate-twod").await.expect("stored");
    assert_eq!(world.handle.view().unsaved, None);
    world.stop().await;
}

#[tokio::test]
async fn a_namespace_locked_by_another_daemon_is_not_changed() {
    let world = World::new();
    let _lock = RunLock::acquire(&world.layout).expect("free");
    world.register("hecate-oned").await.expect("stored");
    let own = world.layout.home().own();
    std::fs::remove_dir_all(own.base()).expect("removed");
    let home = Home::new(world.dir.path().to_owned()).expect("absolute");
    let second = Layout::open(home, Modes::default()).expect("opened");
    second.ensure_own().expect("made");
    let _second_lock = RunLock::acquire(&second).expect("free");
    let refused = world.register("hecate-twod").await.expect_err("another daemon serves the home");
    assert!(refused.to_string().contains("locked the new directory"), "{refused}");
    // Twice, because the first check only notes missing files.
    world.handle.check_files().await.expect("it is running");
    world.handle.check_files().await.expect("it is running");
    std::fs::remove_dir(own.sqlite()).expect("it is empty");
    let _dir = world.stop().await;
    assert!(!own.sqlite().exists(), "the namespace of another daemon is not changed");
}

#[tokio::test]
async fn a_removed_namespace_and_its_database_are_restored_at_the_end() {
    let world = World::new();
    let _lock = RunLock::acquire(&world.layout).expect("free");
    world.register("hecate-oned").await.expect("stored");
    let own = world.layout.home().own();
    std::fs::remove_dir_all(own.base()).expect("removed");
    let _dir = world.stop().await;
    let opened = Store::open(&own.sqlite(), SystemTime::now()).expect("opened");
    assert_eq!(opened.plugins.size(), 1);
}
