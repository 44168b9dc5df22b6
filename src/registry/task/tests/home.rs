//! What the registry does when the daemon's own files are replaced or removed.

use super::*;

#[tokio::test]
async fn a_replaced_database_is_shown_as_unsaved_until_it_is_moved_away() {
    let world = World::new();
    world.register("hecate-oned").await.expect("stored");
    let database = world.path("hecate-daemon", "sqlite/plugins.db");
    let replace = || {
        std::fs::rename(&database, database.with_file_name("ours")).expect("moved");
        std::fs::write(&database, "another's").expect("written");
    };
    replace();
    // The first check only notes that a file is missing.
    assert_eq!(world.handle.check_files().await.expect("it lives"), FileCheck::Missing);
    for _ in 0..3 {
        assert_eq!(world.handle.check_files().await.expect("it lives"), FileCheck::Failed);
        // Its turn begins after the turn of the check has ended.
        world.handle.ping().await.expect("it lives");
        let view = world.handle.view();
        assert!(view.unsaved.is_some() && view.is_lost);
    }
    std::fs::rename(database.with_file_name("ours"), &database).expect("moved back");
    assert_eq!(world.handle.check_files().await.expect("it lives"), FileCheck::Intact);
    let view = world.handle.view();
    assert!(view.unsaved.is_none() && !view.is_lost);

    // A refused registration shows it too, and a stored one ends it.
    replace();
    assert_eq!(code(world.register("hecate-twod").await), "store_failed");
    // Only observations would be tried again.
    tokio::time::pause();
    tokio::time::advance(2 * limits::COMMIT_RETRY).await;
    world.handle.ping().await.expect("it lives");
    world.handle.ping().await.expect("it lives");
    tokio::time::resume();
    assert!(world.handle.view().unsaved.is_some());
    std::fs::rename(database.with_file_name("ours"), &database).expect("moved back");
    world.register("hecate-twod").await.expect("stored");
    assert_eq!(world.handle.view().unsaved, None);
    world.stop().await;
}

#[tokio::test]
async fn a_namespace_that_another_daemon_has_locked_is_left_alone() {
    let world = World::new();
    let _lock = RunLock::take(&world.layout).expect("free");
    world.register("hecate-oned").await.expect("stored");
    let own = world.layout.home().own();
    std::fs::remove_dir_all(own.base()).expect("removed");
    let home = Home::new(world.dir.path().to_owned()).expect("absolute");
    let second = Layout::open(home, Modes::default()).expect("opened");
    second.ensure_own().expect("made");
    let _second_lock = RunLock::take(&second).expect("free");
    let refused = world.register("hecate-twod").await.expect_err("another daemon serves the home");
    assert!(refused.to_string().contains("locked the new one"), "{refused}");
    // Twice, because the first look only notes what is missing.
    world.handle.check_files().await.expect("it lives");
    world.handle.check_files().await.expect("it lives");
    std::fs::remove_dir(own.sqlite()).expect("it is empty");
    let _dir = world.stop().await;
    assert!(!own.sqlite().exists(), "nothing is made in the namespace of another daemon");
}

#[tokio::test]
async fn a_namespace_that_is_removed_before_the_end_is_made_again_with_its_database() {
    let world = World::new();
    let _lock = RunLock::take(&world.layout).expect("free");
    world.register("hecate-oned").await.expect("stored");
    let own = world.layout.home().own();
    std::fs::remove_dir_all(own.base()).expect("removed");
    let _dir = world.stop().await;
    let opened = Store::open(&own.sqlite(), SystemTime::now()).expect("opened");
    assert_eq!(opened.plugins.size(), 1);
}
