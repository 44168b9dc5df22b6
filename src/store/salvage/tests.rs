use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::super::draft::FILE;
use super::super::{Opened, Store};
use super::*;
use crate::plugin::{Reason, ReasonCode, Status, sample};

const PAGE: usize = 4096;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn plugin(name: &str, revision: u64, status: Status, description: Option<String>) -> Plugin {
    Plugin {
        version: Some("0.1.0".into()),
        description,
        node: Some("hecate_traderd@host".parse().unwrap()),
        node_given: true,
        status,
        since: at(revision),
        reason: Reason::new(ReasonCode::Registered, format!("it registered at {revision} \u{2014} \u{e4}")),
        registered_at: at(revision),
        incarnation: revision,
        ..sample::plugin(name)
    }
}

fn event(revision: u64, kind: EventKind, name: &str, description: Option<String>) -> Event {
    let plugin = plugin(name, revision, Status::Running, description);
    Event { revision, at: at(revision), kind, plugin: Arc::new(plugin) }
}

fn open(dir: &Path) -> Opened {
    Store::open(dir, at(1_000_000)).expect("a damaged database never stops a start")
}

/// The state that was stored before the damage.
struct Stored {
    dir: tempfile::TempDir,
    events: Vec<Event>,
    plugins: BTreeMap<PluginName, Arc<Plugin>>,
}

/// Creates a database of many pages: plugins with short and long descriptions, every fifth
/// deregistered.
fn stored(count: u64) -> Stored {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = open(dir.path()).store;
    let mut events = Vec::new();
    for number in 1..=count {
        let length = usize::try_from(number * 37 % 700).expect("small") * if number.is_multiple_of(7) { 9 } else { 1 };
        let description = (!number.is_multiple_of(3)).then(|| "d".repeat(length.min(limits::PLUGIN_DESCRIPTION)));
        events.push(event(events.len() as u64 + 1, EventKind::Registered, &format!("p{number}-d"), description));
        if number.is_multiple_of(5) {
            let name = format!("p{}-d", number - 2);
            events.push(event(events.len() as u64 + 1, EventKind::Deregistered, &name, None));
        }
    }
    for batch in events.chunks(16) {
        store.commit(batch).expect("stored");
    }
    drop(store);
    let plugins = open(dir.path()).plugins.iter().map(|(name, plugin)| (name.clone(), Arc::clone(plugin))).collect();
    Stored { dir, events, plugins }
}

impl Stored {
    fn file(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.file()).expect("read")
    }

    /// Opens it after a change, and checks the invariants.
    fn open_damaged(&self, bytes: &[u8]) -> Opened {
        std::fs::write(self.file(), bytes).expect("written");
        let opened = open(self.dir.path());
        let last = self.events.last().expect("some").revision;
        if opened.set_aside.is_some() {
            assert!(opened.revision >= last, "a revision went backwards: {} after {last}", opened.revision);
            let Salvaged { plugins, events } = opened.salvaged.expect("it was tried");
            assert_eq!(plugins, opened.plugins.size() as u64);
            assert_eq!(events, count(&opened));
        }
        let again = open(self.dir.path());
        assert_eq!((again.revision, again.salvaged), (opened.revision, opened.salvaged), "a restart changes nothing");
        assert_eq!(again.plugins, opened.plugins);
        opened
    }

    /// Checks that each recovered event is unchanged.
    fn compare(&self, opened: &Opened) {
        let known: BTreeMap<u64, &Event> = self.events.iter().map(|event| (event.revision, event)).collect();
        for (revision, event) in Found::new(pages::rows(&opened.store.path), at(0)).events {
            assert_eq!(Some(&&event), known.get(&revision), "it is as it was");
        }
    }

    fn names(&self) -> BTreeSet<String> {
        self.plugins.keys().map(ToString::to_string).collect()
    }
}

fn count(opened: &Opened) -> u64 {
    let count = "SELECT count(*) FROM events";
    opened.store.connection.query_row(count, (), |row| row::number(row, 0)).expect("a number")
}

fn names(opened: &Opened) -> BTreeSet<String> {
    opened.plugins.keys().map(ToString::to_string).collect()
}

#[test]
fn reading_page_by_page_finds_all_rows_of_a_sound_database() {
    let stored = stored(300);
    let found = Found::new(pages::rows(&stored.file()), at(0));
    assert_eq!(found.events.values().cloned().collect::<Vec<_>>(), stored.events);
    assert_eq!(found.plugins, stored.plugins);
}

#[test]
fn only_the_committed_part_of_the_log_is_read() {
    let stored = stored(60);
    let mut store = open(stored.dir.path()).store;
    let newest = event(stored.events.len() as u64 + 1, EventKind::Registered, "newest-d", None);
    store.commit(std::slice::from_ref(&newest)).expect("stored");
    // As after a kill: the log is not written back, and a torn commit is last.
    let crashed = tempfile::tempdir().expect("temporary directory");
    let log = std::fs::read(stored.dir.path().join("plugins.db-wal")).expect("read");
    let torn = [&log[..], &log[32..32 + 24 + PAGE / 2]].concat();
    std::fs::write(crashed.path().join("plugins.db-wal"), torn).expect("written");
    std::fs::copy(stored.file(), crashed.path().join(FILE)).expect("copied");
    let found = Found::new(pages::rows(&crashed.path().join(FILE)), at(0));
    assert_eq!(found.events.len(), stored.events.len() + 1);
    assert_eq!(found.events.last_key_value().map(|(_, event)| event), Some(&newest));
    assert!(found.plugins.contains_key(&newest.plugin.name));
}

#[test]
fn a_damaged_page_loses_only_its_own_rows() {
    let stored = stored(120);
    let sound = stored.bytes();
    let pages = sound.len() / PAGE;
    assert!(pages > 20, "{pages} pages");
    for page in 0..pages {
        for fill in [0x00, 0x5a, 0x0d] {
            let mut bytes = sound.clone();
            bytes[page * PAGE..(page + 1) * PAGE].fill(fill);
            let opened = stored.open_damaged(&bytes);
            assert!(opened.set_aside.is_some() || names(&opened) == stored.names(), "page {page} of {fill}");
            // A page has at most a few dozen rows.
            let lost = stored.events.len() as u64 - count(&opened).min(stored.events.len() as u64);
            assert!(lost <= 40, "page {page} of {fill}: {lost} events are lost");
            let lost = stored.names().difference(&names(&opened)).count();
            assert_eq!(lost, 0, "page {page} of {fill}: the other table has the lost plugins");
            stored.compare(&opened);
            clear(&stored);
        }
    }
}

/// Removes all files before the next damage.
fn clear(stored: &Stored) {
    for entry in std::fs::read_dir(stored.dir.path()).expect("read") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
}

#[test]
fn a_missing_table_a_cut_file_or_a_broken_header_does_not_stop_a_start() {
    let stored = stored(120);
    let sound = stored.bytes();
    for table in ["plugins", "events", "salvaged"] {
        std::fs::write(stored.file(), &sound).expect("written");
        let connection = Connection::open(stored.file()).expect("opens");
        connection.execute_batch(&format!("PRAGMA secure_delete = ON; DROP TABLE {table}")).expect("dropped");
        drop(connection);
        let opened = stored.open_damaged(&stored.bytes());
        assert!(opened.set_aside.is_some(), "{table}");
        let lost = stored.names().difference(&names(&opened)).count();
        assert_eq!(lost, 0, "{table}: the other table has them");
        clear(&stored);
    }
    for length in [100, 512, PAGE, PAGE + 1, sound.len() / 3, sound.len() / 2 + 7, sound.len() - PAGE] {
        let opened = stored.open_damaged(&sound[..length]);
        assert!(opened.set_aside.is_some(), "{length}");
        clear(&stored);
    }
    for broken in [0..16, 0..PAGE.min(100), 16..18, 20..24] {
        let mut bytes = sound.clone();
        bytes[broken.clone()].fill(0xff);
        let opened = stored.open_damaged(&bytes);
        assert!(opened.set_aside.is_some(), "{broken:?}");
        assert_eq!((count(&opened), names(&opened)), (stored.events.len() as u64, stored.names()), "{broken:?}");
        clear(&stored);
    }
}

/// Except the bytes of `user_version`, the schema version, which is trusted.
#[test]
fn a_damaged_byte_of_the_header_does_not_prevent_a_start() {
    let stored = stored(20);
    let sound = stored.bytes();
    for place in (0..100).filter(|place| !(60..64).contains(place)) {
        for flip in [0x01, 0xff] {
            let mut bytes = sound.clone();
            bytes[place] ^= flip;
            let opened = stored.open_damaged(&bytes);
            assert_eq!(names(&opened), stored.names(), "byte {place} by {flip}");
            assert_eq!(count(&opened), stored.events.len() as u64, "byte {place} by {flip}");
            clear(&stored);
        }
    }
}

#[test]
fn events_after_a_salvage_have_new_revisions_and_keep_recovered_ones() {
    let stored = stored(20);
    let mut bytes = stored.bytes();
    bytes[..16].fill(0);
    let mut opened = stored.open_damaged(&bytes);
    let last = stored.events.len() as u64;
    assert_eq!(opened.revision, 1_701_000_000 + 2 * limits::EVENTS_KEPT, "after the seconds since 1970");
    let after = |opened: &Opened, revision| opened.store.events_after(revision).expect("read").map(|page| page.len());
    // A client of the damaged database always gets a snapshot.
    for known in 0..=last + 1 {
        assert_eq!(after(&opened, known), None, "{known}");
    }
    assert_eq!(after(&opened, opened.revision), Some(0));
    let next = opened.revision + 1;
    opened.store.commit(&[event(next, EventKind::Registered, "new-d", None)]).expect("stored");
    assert_eq!((after(&opened, next - 1), after(&opened, last), after(&opened, 0)), (Some(1), None, None));
    assert_eq!(count(&opened), last + 1, "recovered events are kept");
    let name = sample::name("p3-d");
    assert_eq!(opened.store.last_node(&name).expect("read").as_deref(), Some("hecate_traderd@host"));
    // Old events are deleted as usual.
    let many: Vec<_> = (next + 1..next + limits::EVENTS_KEPT)
        .map(|revision| event(revision, EventKind::Registered, "new-d", None))
        .collect();
    opened.store.commit(&many).expect("stored");
    assert_eq!(count(&opened), limits::EVENTS_KEPT);
    assert_eq!(open(stored.dir.path()).revision, next + limits::EVENTS_KEPT - 1);
}

#[test]
fn an_interrupted_salvage_is_finished_at_the_next_start() {
    let stored = stored(20);
    let aside = stored.dir.path().join("plugins.db.damaged-2026-01-01T00:00:00Z-1");
    let recovering = stored.dir.path().join("plugins.db.damaged-2026-01-01T00:00:00Z-1.recovering");
    std::fs::rename(stored.file(), &recovering).expect("renamed");
    let opened = open(stored.dir.path());
    assert_eq!((opened.set_aside.as_ref(), opened.plugins.size()), (Some(&aside), stored.plugins.len()));
    assert!(opened.salvaged.is_some() && aside.exists() && !recovering.exists());
    drop(opened);
    // As if the crash happened after the recovery.
    std::fs::rename(&aside, &recovering).expect("renamed");
    let opened = open(stored.dir.path());
    assert_eq!((opened.set_aside.as_ref(), opened.plugins.size()), (Some(&aside), stored.plugins.len()));
    assert!(opened.salvaged.is_some() && aside.exists() && !recovering.exists());
}

#[test]
fn a_database_set_aside_earlier_is_not_recovered_again() {
    let stored = stored(20);
    let mut bytes = stored.bytes();
    bytes[..16].fill(0);
    let opened = stored.open_damaged(&bytes);
    assert_eq!(opened.plugins.size(), stored.plugins.len());
    let aside = opened.set_aside.clone();
    drop(opened);
    std::fs::remove_file(stored.file()).expect("removed");
    let opened = open(stored.dir.path());
    assert_eq!((opened.revision, opened.plugins.size(), &opened.set_aside), (0, 0, &aside));
    assert_eq!(opened.salvaged, None);
}

#[test]
fn a_second_salvage_has_later_revisions_than_the_first() {
    let stored = stored(20);
    let mut bytes = stored.bytes();
    bytes[..16].fill(0);
    let mut opened = stored.open_damaged(&bytes);
    let first = opened.revision;
    let new: Vec<_> = (1..=50).map(|number| event(first + number, EventKind::Registered, "new-d", None)).collect();
    opened.store.commit(&new).expect("stored");
    assert_eq!(count(&opened), (stored.events.len() + new.len()) as u64);
    let connection = &opened.store.connection;
    connection
        .execute_batch(&format!("DELETE FROM events WHERE revision > {first}; DELETE FROM salvaged"))
        .expect("lost");
    connection.execute_batch("DELETE FROM plugins WHERE name = 'new-d'; VACUUM").expect("lost");
    drop(opened);
    let found = Found::new(pages::rows(&stored.file()), at(1_000_100));
    assert_eq!(found.events.len(), stored.events.len());
    assert!(found.revision > first + 50, "{} after {first}", found.revision);
}

#[test]
fn a_plugin_with_a_field_that_an_earlier_release_accepted_keeps_everything_else() {
    let stored = stored(1);
    let name = sample::name("p1-d");
    let change =
        "UPDATE plugins SET version = '1' || char(8238), description = 'kept', node = 'nowhere', incarnation = -1;
                  DELETE FROM events";
    Connection::open(stored.file()).expect("opens").execute_batch(change).expect("changed");
    let opened = open(stored.dir.path());
    let plugin = opened.plugins.get(&name).expect("it is kept");
    assert_eq!((&plugin.version, plugin.description.as_deref(), &plugin.node), (&None, Some("kept"), &None));
}

#[test]
fn an_unreadable_database_is_followed_by_new_revisions() {
    let stored = stored(5);
    let opened = stored.open_damaged(&[0x5a; 3 * PAGE]);
    assert_eq!(opened.salvaged, Some(Salvaged { plugins: 0, events: 0 }));
    assert!(opened.revision > 1_700_000_000);
}

#[test]
fn a_row_that_no_daemon_could_have_written_is_left_out_or_clamped() {
    for (change, kept) in [
        ("UPDATE plugins SET name = '../../etc'; DELETE FROM events", false),
        ("UPDATE plugins SET status = 'perhaps'; DELETE FROM events", false),
        ("UPDATE plugins SET reason = char(27); UPDATE plugins SET incarnation = -1; DELETE FROM events", false),
        ("UPDATE plugins SET node = 'nowhere', incarnation = -1; DELETE FROM events", true),
        ("UPDATE plugins SET incarnation = -1; DELETE FROM events", true),
        ("UPDATE plugins SET incarnation = -1, since = -1; UPDATE events SET kind = 'odd', revision = -revision", true),
        ("UPDATE plugins SET name = '../../etc'", true),
    ] {
        let stored = stored(1);
        Connection::open(stored.file()).expect("opens").execute_batch(change).expect("changed");
        let opened = open(stored.dir.path());
        assert!(opened.set_aside.is_some() || !kept, "{change}");
        assert_eq!(names(&opened).contains("p1-d"), kept, "{change}");
    }
}

#[test]
fn a_row_is_read_from_its_overflow_pages_up_to_the_limit() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("any.db");
    let connection = Connection::open(&path).expect("opens");
    connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT) STRICT").expect("made");
    connection.execute_batch("CREATE TABLE w (text TEXT PRIMARY KEY) STRICT, WITHOUT ROWID").expect("made");
    // A record of one text has a head of a few bytes.
    let lengths = [0, 1, 900, 1001, 1002, 1003, 4050, 4056, 4057, 4058, 9000, limits::SALVAGED_ROW - 8];
    let too_long = limits::SALVAGED_ROW + 1;
    for length in lengths.into_iter().chain([too_long]) {
        connection.execute("INSERT INTO t (text) VALUES (?1)", ["x".repeat(length)]).expect("stored");
        connection.execute("INSERT INTO w VALUES (?1)", ["x".repeat(length)]).expect("stored");
    }
    drop(connection);
    let (mut table, mut index) = (BTreeSet::new(), BTreeSet::new());
    for row in pages::rows(&path) {
        match row {
            pages::Row::Table { id, values } => {
                if let [Value::Null, Value::Text(text)] = &values[..] {
                    assert_eq!(text.len(), lengths[usize::try_from(id).expect("small") - 1]);
                    table.insert(text.len());
                }
            }
            pages::Row::Index { values } => {
                let [Value::Text(text)] = &values[..] else { panic!("one text, not {values:?}") };
                index.insert(text.len());
            }
        }
    }
    assert_eq!((&table, &index), (&BTreeSet::from(lengths), &BTreeSet::from(lengths)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Damages many places at once, with any length and content.
    #[test]
    fn no_damage_stops_a_start(damages in prop::collection::vec((any::<prop::sample::Index>(), 1..9000_usize, any::<u8>(), any::<bool>()), 1..6), cut in any::<prop::sample::Index>(), cuts in prop::bool::weighted(0.3)) {
        let stored = stored(40);
        let mut bytes = stored.bytes();
        for (place, length, byte, is_noise) in damages {
            // The application id and the schema version are trusted: such a database is refused,
            // not salvaged.
            let from = place.index(bytes.len()).max(100);
            let to = (from + length).min(bytes.len());
            for (at, changed) in bytes[from..to].iter_mut().enumerate() {
                *changed = if is_noise { byte.wrapping_mul(167).wrapping_add(u8::try_from(at % 251).unwrap_or(0)) } else { byte };
            }
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()).max(100));
        }
        stored.open_damaged(&bytes);
    }

    /// Bytes that were never a database, and single bits of a header.
    #[test]
    fn the_reader_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..20_000), begins in any::<bool>()) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (path, log) = (dir.path().join(FILE), dir.path().join("plugins.db-wal"));
        let mut file = bytes.clone();
        if begins && file.len() > 200 {
            file[..16].copy_from_slice(b"SQLite format 3\0");
            file[16..18].copy_from_slice(&512_u16.to_be_bytes());
            for page in file.chunks_mut(512) {
                page[0] = [0x0d, 0x0a, 0x02][usize::from(page[0] % 3)];
            }
        }
        std::fs::write(&path, &file).expect("written");
        std::fs::write(log, &bytes).expect("written");
        drop(Found::new(pages::rows(&path), at(0)));
    }
}
