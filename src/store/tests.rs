use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::plugin::{Plugin, Reason, ReasonCode, Status, sample};

/// A time with a fraction that SQLite must not lose.
fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::new(1_700_000_000 + seconds, 123_456_789)
}

fn plugin(name: &str, revision: u64) -> Plugin {
    Plugin {
        version: Some("0.1.0".into()),
        node: Some("hecate_traderd@host".parse().unwrap()),
        node_given: true,
        status: Status::Stopped,
        since: at(revision),
        reason: Reason::new(ReasonCode::SocketGone, "its socket is gone \u{2014} \u{e4}\u{f6}"),
        registered_at: at(1),
        incarnation: revision,
        ..sample::plugin(name)
    }
}

fn event(revision: u64, kind: EventKind, name: &str) -> Event {
    Event { revision, at: at(revision), kind, plugin: Arc::new(plugin(name, revision)) }
}

fn registered(revision: u64, name: &str) -> Event {
    event(revision, EventKind::Registered, name)
}

fn open(dir: &Path) -> Opened {
    Store::open(dir, at(0)).expect("opens")
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary directory")
}

fn sql(dir: &Path, statements: &str) {
    Connection::open(dir.join(FILE)).expect("opens").execute_batch(statements).expect("runs");
}

#[test]
fn a_stored_plugin_is_read_back_unchanged() {
    let dir = dir();
    let mut opened = open(dir.path());
    assert_eq!((opened.revision, opened.plugins.size(), opened.set_aside.clone()), (0, 0, None));
    let bare = Plugin {
        version: None,
        description: Some(String::new()),
        node: None,
        node_given: false,
        status: Status::Running,
        ..plugin("hecate-bared", 2)
    };
    let bare = Event { revision: 2, at: at(2), kind: EventKind::StatusChanged, plugin: Arc::new(bare) };
    let events = [registered(1, "hecate-traderd"), bare];
    opened.store.commit(&events).expect("stored");
    drop(opened);

    let opened = open(dir.path());
    assert_eq!(opened.revision, 2);
    let expected = events.iter().map(|event| (event.plugin.name.clone(), Arc::clone(&event.plugin)));
    assert_eq!(opened.plugins, expected.collect::<Plugins>());
    assert_eq!(opened.store.events_after(0).expect("read"), Some(events.to_vec()));
}

#[test]
fn a_stored_node_name_that_is_invalid_today_is_read_as_none() {
    let dir = dir();
    let mut opened = open(dir.path());
    opened.store.commit(&[registered(1, "hecate-traderd")]).expect("stored");
    drop(opened);
    sql(dir.path(), "UPDATE plugins SET node = 'a b@h'; UPDATE events SET node = 'a b@h'");
    let opened = open(dir.path());
    let expected = Plugin { node: None, node_given: false, ..plugin("hecate-traderd", 1) };
    assert_eq!(opened.plugins.values().map(|plugin| &**plugin).collect::<Vec<_>>(), [&expected]);
    assert_eq!(opened.store.last_node(&expected.name).expect("read"), None);
}

#[test]
fn a_deregistered_plugin_keeps_its_events() {
    let dir = dir();
    let mut opened = open(dir.path());
    let gone = event(2, EventKind::Deregistered, "hecate-traderd");
    opened.store.commit(&[registered(1, "hecate-traderd"), gone]).expect("stored");
    drop(opened);
    let opened = open(dir.path());
    assert_eq!((opened.revision, opened.plugins.size()), (2, 0));
    assert_eq!(opened.store.events_after(0).expect("read").map(|events| events.len()), Some(2));
}

#[test]
fn a_commit_survives_a_kill() {
    let (dir, crashed) = (dir(), self::dir());
    let mut opened = open(dir.path());
    opened.store.commit(&[registered(1, "hecate-traderd")]).expect("stored");
    // After a kill, the files are neither closed nor written back.
    for file in [FILE, "plugins.db-wal"] {
        std::fs::copy(dir.path().join(file), crashed.path().join(file)).expect("copied");
    }
    // Half of a commit that was in progress.
    let log = crashed.path().join("plugins.db-wal");
    let mut torn = std::fs::read(&log).expect("there");
    let half = torn[32..1000].to_vec();
    torn.extend_from_slice(&half);
    std::fs::write(&log, torn).expect("written");
    let again = open(crashed.path());
    assert_eq!((again.revision, again.plugins.size(), again.set_aside), (1, 1, None));
}

#[test]
fn a_batch_is_stored_whole_or_not_at_all() {
    let dir = dir();
    let mut opened = open(dir.path());
    opened.store.commit(&[registered(1, "hecate-oned")]).expect("stored");
    // The third event has a revision that exists already.
    let batch = [registered(2, "hecate-twod"), registered(3, "hecate-threed"), registered(1, "hecate-fourd")];
    opened.store.commit(&batch).expect_err("revision 1 exists");
    assert_eq!(opened.store.events_after(0).expect("read").map(|events| events.len()), Some(1));
    opened.store.commit(&batch[..2]).expect("stored");
    drop(opened);
    assert_eq!(open(dir.path()).plugins.size(), 3);
}

#[test]
fn the_files_are_private_and_commits_are_synced() {
    let dir = dir();
    let mut opened = open(dir.path());
    opened.store.commit(&[registered(1, "hecate-traderd")]).expect("stored");
    for file in [FILE, "plugins.db-wal", "plugins.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(file)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let pragma = |name: &str| -> String {
        let value =
            opened.store.connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        format!("{:?}", value.expect("a value"))
    };
    assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
    assert_eq!(pragma("synchronous"), "Integer(2)");
    assert_eq!(pragma("user_version"), "Integer(3)");
}

#[test]
fn times_that_were_edited_are_clamped_on_read() {
    for stored in [i64::MIN, -1, 0, i64::MAX] {
        let dir = dir();
        let mut opened = open(dir.path());
        opened.store.commit(&[registered(1, "hecate-traderd")]).expect("stored");
        drop(opened);
        sql(dir.path(), &format!("UPDATE plugins SET since = {stored}, registered_at = {stored}"));
        sql(dir.path(), &format!("UPDATE events SET since = {stored}, registered_at = {stored}, at = {stored}"));

        let opened = open(dir.path());
        let expected = timestamp::from_nanoseconds(stored);
        assert_eq!((opened.revision, opened.set_aside.as_ref()), (1, None), "{stored}");
        let plugin = opened.plugins.values().next().expect("it is registered");
        assert_eq!((plugin.since, plugin.registered_at), (expected, expected), "{stored}");
        let events = opened.store.events_after(0).expect("read").expect("no event was deleted");
        assert_eq!((events[0].at, events[0].plugin.since), (expected, expected), "{stored}");
    }
}

#[test]
fn times_and_revisions_that_cannot_be_stored_are_refused_on_write() {
    let dir = dir();
    let mut store = open(dir.path()).store;
    let (early, late) = (UNIX_EPOCH - Duration::from_nanos(1), UNIX_EPOCH + Duration::from_secs(1 << 40));
    for time in [early, late] {
        let bad = Event { at: time, ..registered(1, "hecate-traderd") };
        assert!(store.commit(&[bad]).expect_err("the event's time").to_string().contains("before 1970 or after 2262"));
        let bad = Arc::new(Plugin { since: time, ..plugin("hecate-traderd", 1) });
        store.commit(&[Event { plugin: bad, ..registered(1, "hecate-traderd") }]).expect_err("the plugin's time");
    }
    store.commit(&[registered(limits::REVISION + 1, "hecate-traderd")]).expect_err("the revision");
    drop(store);
    assert_eq!((open(dir.path()).revision, open(dir.path()).plugins.size()), (0, 0));
}

#[test]
fn a_revision_that_has_no_successor_is_damage() {
    for (revision, is_damage) in [(limits::REVISION, false), (limits::REVISION + 1, true)] {
        let dir = dir();
        let mut opened = open(dir.path());
        opened.store.commit(&[registered(1, "hecate-traderd")]).expect("stored");
        drop(opened);
        sql(dir.path(), &format!("UPDATE events SET revision = {revision}"));
        assert_eq!(open(dir.path()).set_aside.is_some(), is_damage, "{revision}");
    }
}

#[test]
fn a_link_is_not_followed() {
    let (dir, elsewhere) = (dir(), self::dir());
    let link = dir.path().join(FILE);
    let target = elsewhere.path().join("target");
    std::os::unix::fs::symlink(&target, &link).expect("linked");
    for exists in [false, true] {
        let refused = Store::open(dir.path(), at(0)).expect_err("a link");
        assert!(matches!(&refused, OpenError::SymbolicLink(path) if *path == link), "{refused:?}");
        assert_eq!(target.exists(), exists);
        std::fs::write(&target, "").expect("written");
    }
    assert_eq!(std::fs::read(&target).expect("there"), b"");
}

type Damage<'a> = &'a dyn Fn(&Path);

#[test]
fn a_damaged_database_is_set_aside_and_reported() {
    let garbage = |dir: &Path| std::fs::write(dir.join(FILE), [0x5a; 8192]).expect("written");
    let middle = |dir: &Path| {
        let path = dir.join(FILE);
        let mut bytes = std::fs::read(&path).expect("there");
        let length = bytes.len();
        bytes[4096..length].fill(0x5a);
        std::fs::write(&path, bytes).expect("written");
    };
    let cut = |dir: &Path| {
        let file = OpenOptions::new().write(true).open(dir.join(FILE)).expect("there");
        file.set_len(5000).expect("cut");
    };
    let name = |dir: &Path| sql(dir, "UPDATE plugins SET name = '../../etc'");
    let status = |dir: &Path| sql(dir, "UPDATE plugins SET status = 'perhaps'");
    let number = |dir: &Path| sql(dir, "UPDATE plugins SET incarnation = -1");
    let hurts: [(&str, Damage, usize); 6] = [
        ("garbage", &garbage, 0),
        ("middle", &middle, 0),
        ("cut", &cut, 0),
        ("name", &name, 1),
        ("status", &status, 1),
        ("number", &number, 1),
    ];
    for (hurt, damage, recovered) in hurts {
        let dir = dir();
        let mut opened = open(dir.path());
        opened.store.commit(&[registered(1, "hecate-traderd")]).expect("stored");
        drop(opened);
        damage(dir.path());
        let hurt_bytes = std::fs::read(dir.path().join(FILE)).expect("there");

        let opened = open(dir.path());
        assert_eq!(opened.plugins.size(), recovered, "{hurt}");
        assert_eq!(opened.salvaged.map(|salvaged| salvaged.plugins), Some(recovered as u64), "{hurt}");
        let aside = opened.set_aside.unwrap_or_else(|| panic!("{hurt}: nothing was set aside"));
        assert!(aside.to_str().is_some_and(|path| path.contains("plugins.db.damaged-2023-11-14T")), "{aside:?}");
        assert_eq!(std::fs::read(&aside).expect("there"), hurt_bytes, "{hurt}: it is kept byte for byte");
        // The new database is sound and is kept.
        let mut store = opened.store;
        store.commit(&[registered(opened.revision + 1, "hecate-newd")]).expect("stored");
        drop(store);
        assert_eq!(open(dir.path()).plugins.size(), recovered + 1, "{hurt}");
    }
}

#[test]
fn damage_in_the_events_alone_is_found() {
    let dir = dir();
    let mut store = open(dir.path()).store;
    let events: Vec<_> = (1..=200).map(|revision| registered(revision, "hecate-traderd")).collect();
    store.commit(&events).expect("stored");
    drop(store);
    // Damage a page with old events, which only the check reads at a start.
    let path = dir.path().join(FILE);
    let mut bytes = std::fs::read(&path).expect("there");
    let database = Connection::open(&path).expect("opens");
    let page: i64 = database.pragma_query_value(None, "page_size", |row| row.get(0)).expect("a number");
    let page = usize::try_from(page).expect("a size");
    drop(database);
    let pages = bytes.len() / page;
    assert!(pages > 5, "the events have their own pages");
    bytes[(pages - 2) * page..(pages - 1) * page].fill(0x5a);
    std::fs::write(&path, bytes).expect("written");
    assert!(open(dir.path()).set_aside.is_some());
}

#[test]
fn aside_names_run_out() {
    let dir = dir();
    for _ in 0..limits::SET_ASIDE {
        std::fs::write(dir.path().join(FILE), "no database at all").expect("written");
        assert!(open(dir.path()).set_aside.is_some());
    }
    std::fs::write(dir.path().join(FILE), "no database at all").expect("written");
    let refused = Store::open(dir.path(), at(0)).expect_err("no name is left");
    assert!(matches!(refused, OpenError::Io { .. }), "{refused:?}");
    assert_eq!(std::fs::read(dir.path().join(FILE)).expect("kept"), b"no database at all");
    // The next second has new names.
    assert!(Store::open(dir.path(), at(1)).expect("opens").set_aside.is_some());
}

#[test]
fn a_newer_schema_is_refused_and_not_changed() {
    let dir = dir();
    drop(open(dir.path()));
    sql(dir.path(), "PRAGMA user_version = 4");
    let before = std::fs::read(dir.path().join(FILE)).expect("there");
    let refused = Store::open(dir.path(), at(0)).expect_err("version 4");
    assert!(matches!(refused, OpenError::Newer { found: 4, .. }), "{refused:?}");
    let checked = Store::check_version(&dir.path().canonicalize().expect("there")).expect_err("version 4");
    assert_eq!(checked.to_string(), refused.to_string());
    assert!(
        refused.to_string().contains("schema version 4, but this release supports only versions up to 3"),
        "{refused}"
    );
    assert_eq!(std::fs::read(dir.path().join(FILE)).expect("there"), before);
}

#[test]
fn a_fifo_in_place_of_the_database_does_not_block_the_check_of_its_version() {
    let dir = dir();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join(FILE), rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    Store::check_version(dir.path()).expect("it has no version");
}

#[test]
fn a_database_of_another_program_is_refused_and_not_changed() {
    let dir = dir();
    sql(dir.path(), "CREATE TABLE plugins (id INTEGER)");
    let refused = Store::open(dir.path(), at(0)).expect_err("a database of another program");
    assert!(matches!(refused, OpenError::Foreign(_)), "{refused:?}");
    sql(dir.path(), "INSERT INTO plugins VALUES (1)");
}

#[test]
fn a_commit_to_a_locked_database_is_refused() {
    let dir = dir();
    let mut opened = open(dir.path());
    let other = Connection::open(dir.path().join(FILE)).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    // SQLite waits for 2 s, by its own clock.
    let wait: i64 = opened.store.connection.query_row("PRAGMA busy_timeout", (), |row| row.get(0)).expect("a number");
    let start = std::time::Instant::now();
    opened.store.commit(&[registered(1, "hecate-traderd")]).expect_err("locked");
    assert_eq!(wait, 2000, "milliseconds");
    assert!(start.elapsed() >= std::time::Duration::from_secs(2), "{:?}", start.elapsed());
    other.execute_batch("ROLLBACK").expect("unlocked");
    opened.store.commit(&[registered(1, "hecate-traderd")]).expect("stored");
}

#[test]
fn stored_events_are_bounded() {
    let dir = dir();
    let mut store = open(dir.path()).store;
    let last = limits::EVENTS_KEPT + 7;
    let events: Vec<_> = (1..=last).map(|revision| registered(revision, "hecate-traderd")).collect();
    store.commit(&events).expect("stored");
    let count: i64 = store.connection.query_row("SELECT count(*) FROM events", (), |row| row.get(0)).expect("a number");
    assert_eq!(u64::try_from(count), Ok(limits::EVENTS_KEPT));
    assert_eq!(store.events_after(6).expect("read"), None);
    let page = store.events_after(7).expect("read").expect("no event was deleted");
    assert_eq!(page.first().map(|event| event.revision), Some(8));
    drop(store);
    assert_eq!(open(dir.path()).revision, last);
}

#[test]
fn events_are_read_in_pages() {
    let dir = dir();
    let mut store = open(dir.path()).store;
    assert_eq!(store.events_after(0).expect("read"), Some(vec![]));
    assert_eq!(store.events_after(1).expect("read"), None);
    let last = u64::try_from(limits::EVENTS_PAGE).expect("small") + 3;
    let events: Vec<_> = (1..=last).map(|revision| registered(revision, "hecate-traderd")).collect();
    store.commit(&events).expect("stored");
    let after = |revision| store.events_after(revision).expect("read").map(|events| events.len());
    assert_eq!(after(0), Some(limits::EVENTS_PAGE));
    assert_eq!(after(last - 3), Some(3));
    assert_eq!(after(last), Some(0));
    assert_eq!(after(last + 1), None);
    assert_eq!(after(u64::MAX), None);
}

#[test]
fn an_empty_database_is_damaged_and_a_log_without_a_database_is_recovered() {
    let log = "plugins.db-wal";
    for (files, recovered) in [(&[FILE] as &[&str], 0), (&[log], 1), (&[FILE, log], 1)] {
        let (used, crashed) = (dir(), self::dir());
        let mut opened = open(used.path());
        opened.store.commit(&[registered(1, "hecate-traderd")]).expect("stored");
        std::fs::copy(used.path().join(log), crashed.path().join(log)).expect("copied");
        for file in [FILE, log] {
            match files.contains(&file) {
                true if file == FILE => drop(File::create(crashed.path().join(file)).expect("made")),
                true => {}
                false => crate::files::remove(&crashed.path().join(file)).expect("removed"),
            }
        }
        let opened = open(crashed.path());
        assert!(opened.set_aside.is_some(), "{files:?}");
        assert_eq!(opened.salvaged, Some(Salvaged { plugins: recovered, events: recovered }), "{files:?}");
        assert_eq!(opened.plugins.size() as u64, recovered, "{files:?}");
        let aside = opened.set_aside.clone();
        drop(opened);
        let again = open(crashed.path());
        assert_eq!((again.plugins.size() as u64, again.set_aside), (recovered, aside), "{files:?}");
    }
}

#[test]
fn an_interrupted_first_start_leaves_no_damaged_database() {
    let dir = dir();
    let draft = dir.path().join(".plugins.db.new");
    // A directory cannot be removed like a file, so the first step of writing the database fails.
    std::fs::create_dir(&draft).expect("made");
    Store::open(dir.path(), at(0)).expect_err("it cannot be written");
    assert!(!dir.path().join(FILE).exists(), "an empty file would be reported at the next start");
    std::fs::remove_dir(&draft).expect("there");
    for (file, content) in [(".plugins.db.new", "half of it"), ("plugins.db-wal", ""), ("plugins.db-shm", "old")] {
        std::fs::write(dir.path().join(file), content).expect("written");
    }
    let mut opened = open(dir.path());
    assert_eq!((opened.set_aside.clone(), draft.exists()), (None, false));
    opened.store.commit(&[registered(1, "hecate-traderd")]).expect("stored");
    drop(opened);
    assert_eq!(open(dir.path()).plugins.size(), 1);
}

/// Plugins with the codes of their reasons.
type Codes = &'static [(&'static str, ReasonCode)];

/// Databases of schema versions 1 and 2, and what they hold.
const EARLIER: [(&str, Codes, u64); 2] = [
    (
        include_str!("../../tests/database/version-1.sql"),
        &[("hecate-app-traderd", ReasonCode::Registered), ("hecate-marthad", ReasonCode::SocketGone)],
        5,
    ),
    (
        include_str!("../../tests/database/version-2.sql"),
        &[
            ("hecate-app-traderd", ReasonCode::Registered),
            ("hecate-marthad", ReasonCode::SocketGone),
            ("hecate-odd", ReasonCode::StatusUnknown),
        ],
        7,
    ),
];

fn codes(opened: &Opened) -> Vec<(&str, ReasonCode)> {
    opened.plugins.values().map(|plugin| (plugin.name.as_str(), plugin.reason.code)).collect()
}

#[test]
fn a_database_of_an_earlier_version_is_upgraded_and_its_reasons_get_codes() {
    for (earlier, expected, last) in EARLIER {
        let dir = dir();
        sql(dir.path(), earlier);
        let mut opened = open(dir.path());
        assert_eq!((codes(&opened).as_slice(), opened.revision, &opened.set_aside), (expected, last, &None));
        let events = opened.store.events_after(0).expect("read").expect("no event was deleted");
        assert_eq!(events[3].plugin.reason, Reason::new(ReasonCode::SocketGone, "its socket is gone"));
        opened.store.commit(&[registered(last + 1, "hecate-odd")]).expect("stored");
        drop(opened);
        let again = open(dir.path());
        assert_eq!(codes(&again).last(), Some(&("hecate-odd", ReasonCode::SocketGone)));
        let stored = again.plugins.values().find(|plugin| plugin.name.as_str() == "hecate-odd").expect("there");
        assert_eq!(**stored, plugin("hecate-odd", last + 1), "it is unchanged");
    }
}

#[test]
fn rows_of_every_version_are_salvaged_with_their_codes() {
    let damage = |dir: &Path| {
        let path = dir.join(FILE);
        let mut bytes = std::fs::read(&path).expect("there");
        bytes[..16].fill(0);
        std::fs::write(&path, bytes).expect("written");
    };
    for (earlier, expected, last) in EARLIER {
        let dir = dir();
        sql(dir.path(), earlier);
        damage(dir.path());
        let opened = open(dir.path());
        assert_eq!((codes(&opened).as_slice(), opened.set_aside.is_some()), (expected, true));
        assert_eq!(opened.salvaged.map(|salvaged| salvaged.events), Some(last));
    }
    // Rows from before an upgrade, and one from after it.
    for (earlier, expected, last) in EARLIER {
        let dir = dir();
        sql(dir.path(), earlier);
        open(dir.path()).store.commit(&[registered(last + 1, "hecate-zd")]).expect("stored");
        damage(dir.path());
        let opened = open(dir.path());
        assert_eq!(codes(&opened), [expected, &[("hecate-zd", ReasonCode::SocketGone)]].concat());
        assert_eq!(opened.salvaged.map(|salvaged| salvaged.events), Some(last + 1));
    }
}

#[test]
fn a_code_of_a_newer_release_is_read_as_unknown() {
    let dir = dir();
    open(dir.path()).store.commit(&[registered(1, "hecate-traderd")]).expect("stored");
    sql(dir.path(), "UPDATE plugins SET reason_code = 'of_a_newer_release'");
    let opened = open(dir.path());
    assert_eq!((codes(&opened), opened.set_aside.clone()), (vec![("hecate-traderd", ReasonCode::Unknown)], None));
}
