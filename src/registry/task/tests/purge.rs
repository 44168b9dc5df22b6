//! Tests of purges: their conditions, their order and their durability.

use super::*;

#[tokio::test]
async fn only_the_data_of_a_stopped_plugin_is_purged() {
    let world = World::new();
    let data = world.path("hecate-oned", "sqlite/a.db");
    let purge = || world.handle.purge(name("hecate-oned"));
    assert_eq!(code(purge().await), "no_data");
    world.register("hecate-oned").await.expect("accepted");
    std::fs::write(&data, "12345").expect("written");
    assert_eq!(code(purge().await), "registered");
    world.handle.deregister(name("hecate-oned")).await.expect("accepted");

    // Between `bind` and `listen`, the socket of a running plugin refuses connections.
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    let address = SocketAddrUnix::new(world.path("hecate-oned", "sockets/api.sock")).expect("short");
    rustix::net::bind(&socket, &address).expect("bound");
    let (refused, ()) = tokio::join!(purge(), async { rustix::net::listen(&socket, 1).expect("listening") });
    assert_eq!(code(refused), "still_running");
    drop(socket);
    world.up("hecate_oned@host").await;
    assert_eq!(code(purge().await), "still_running");
    world.down("hecate_oned@host").await;
    assert!(data.exists());

    let revision = world.handle.view().revision;
    let mut follower = Follower::new(world.handle.clone(), revision);
    let removed = purge().await.expect("gone");
    assert_eq!(removed, Removed { directories: 6, files: 1, bytes: 5 });
    assert!(!world.path("hecate-oned", "").exists());
    let Ok(Next::Event(event)) = follower.next().await else { panic!("no event") };
    let what = (event.kind, event.plugin.name.as_str(), event.revision);
    assert_eq!(what, (EventKind::DataPurged, "hecate-oned", revision + 1));
    assert_eq!(code(purge().await), "no_data");
    // It is stored as an event and not as a plugin.
    assert_eq!(world.count("SELECT count(*) FROM events WHERE kind = 'plugin_data_purged_v1'"), 1);
    assert_eq!(world.count("SELECT count(*) FROM plugins"), 0);
    world.register("hecate-oned").await.expect("accepted");
    assert!(world.path("hecate-oned", "sqlite").is_dir());
}

#[tokio::test]
async fn the_last_node_prevents_a_purge_after_a_restart() {
    let world = World::new();
    world.handle.register(on("hecate-oned", "trader@pod"), None).await.expect("accepted");
    world.handle.deregister(name("hecate-oned")).await.expect("accepted");
    let dir = world.stop().await;
    let root = dir.path().to_owned();
    let world = World::at(dir, root);
    world.handle.membership(Membership::NodeUp { node: "trader@pod".parse().unwrap(), on_this_host: false }).await;
    assert_eq!(code(world.handle.purge(name("hecate-oned")).await), "still_running");
    assert!(world.path("hecate-oned", "sqlite").is_dir());
    world.down("trader@pod").await;
    world.handle.purge(name("hecate-oned")).await.expect("gone");
}

#[tokio::test]
async fn a_purge_keeps_its_place_in_the_queue() {
    let world = World::new();
    world.register("hecate-oned").await.expect("accepted");
    let (gone, purged, again, refused) = tokio::join!(
        world.handle.deregister(name("hecate-oned")),
        world.handle.purge(name("hecate-oned")),
        world.register("hecate-oned"),
        world.handle.purge(name("hecate-oned")),
    );
    gone.expect("accepted");
    assert_eq!(purged.expect("gone").directories, 6);
    again.expect("accepted");
    assert_eq!(code(refused), "registered");
    assert!(world.path("hecate-oned", "run").is_dir());
}

#[tokio::test]
async fn a_purge_that_cannot_be_stored_has_not_happened() {
    let world = World::new();
    world.register("hecate-oned").await.expect("accepted");
    world.handle.deregister(name("hecate-oned")).await.expect("accepted");
    let data = world.path("hecate-oned", "sqlite/a.db");
    std::fs::write(&data, "12345").expect("written");
    world.break_store();
    assert_eq!(code(world.handle.purge(name("hecate-oned")).await), "store_failed");
    assert_eq!(std::fs::read_to_string(&data).expect("kept"), "12345");
    world.repair_store();
    world.handle.purge(name("hecate-oned")).await.expect("gone");
}

#[tokio::test]
async fn a_start_settles_interrupted_purges() {
    let world = World::new();
    for plugin in ["hecate-oned", "hecate-twod"] {
        world.register(plugin).await.expect("accepted");
        world.handle.deregister(name(plugin)).await.expect("accepted");
    }
    let revision = world.handle.view().revision;
    world.layout.set_namespace_aside(&name("hecate-oned"), revision).expect("renamed");
    world.layout.set_namespace_aside(&name("hecate-twod"), revision + 1).expect("renamed");
    let dir = world.stop().await;
    let root = dir.path().to_owned();
    let world = World::at(dir, root);
    eventually("the recorded purge is finished", || {
        let entries = std::fs::read_dir(world.layout.home().root()).expect("read");
        entries.filter(|entry| entry.as_ref().expect("an entry").file_name() != "hecate-daemon").count() == 1
    })
    .await;
    assert!(world.path("hecate-twod", "sqlite").is_dir(), "the purge that was not recorded is undone");
}

#[tokio::test]
async fn a_purge_without_a_waiting_client_is_dropped() {
    let world = World::new();
    let (commands, mut purges) = mpsc::channel(1);
    let (disk, queue) = mpsc::channel(1);
    world.layout.ensure(&name("hecate-oned"), None).expect("made");
    let serving = tokio::spawn(disk::serve(Arc::clone(&world.layout), queue, commands.downgrade()));
    for is_wanted in [false, true] {
        let (reply, answer) = oneshot::channel();
        let answer = Some(answer).filter(|_| is_wanted);
        disk.send(DiskCommand::Purge { name: name("hecate-oned"), reply }).await.expect("accepted");
        if answer.is_some() {
            let Some(Command::Purge { reply, .. }) = purges.recv().await else { panic!("not asked") };
            assert!(!reply.is_closed(), "the first one was dropped");
        }
    }
    drop(disk);
    timeout(PATIENCE, serving).await.expect("it ends").expect("without a panic");
}
