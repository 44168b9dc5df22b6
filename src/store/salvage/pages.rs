//! Reads the rows of a damaged SQLite file page by page, without following the pages that lead to
//! them.
//!
//! SQLite has the same function, but only in a C extension that the bundled build does not include.
//! This reader never writes, and checks all values. It follows
//! <https://sqlite.org/fileformat2.html>; section numbers below refer to that page. Committed pages
//! in the write-ahead log replace those of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::types::Value;

use crate::files::beside;
use crate::limits;
use crate::store::files::WAL;

/// A row that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Row {
    /// A row of a table with row ids.
    Table {
        /// The row id.
        id: i64,
        /// The columns. The column of the row id is null.
        values: Vec<Value>,
    },
    /// A row of an index, or of a table without row ids.
    Index {
        /// The columns.
        values: Vec<Value>,
    },
}

/// The first bytes of every database (section 1.3).
const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER: usize = 100;
/// The default of SQLite, which the daemon does not change.
const PAGE_SIZE: usize = 4096;

/// Reads all rows of a database and of its write-ahead log. A missing or unreadable file has no
/// rows.
pub(super) fn rows(database: &Path) -> Vec<Row> {
    let (file, log) = (File::open(database).ok(), File::open(beside(database, WAL)).ok());
    let header = file.as_ref().and_then(|file| read(file, 0, HEADER).ok()).unwrap_or_default();
    let log_header = log.as_ref().and_then(|log| Log::read(log).ok().flatten());
    let mut sizes = BTreeSet::from([PAGE_SIZE]);
    sizes.extend(u16_at(&header, 16).map(|size| if size == 1 { 65_536 } else { usize::from(size) }));
    sizes.extend(log_header.as_ref().map(|log| log.page_size));
    sizes.retain(|size| size.is_power_of_two() && (512..=65_536).contains(size));
    let found = sizes.into_iter().map(|size| {
        let overlay = log.as_ref().zip(log_header.as_ref()).filter(|(_, header)| header.page_size == size);
        let overlay = overlay.and_then(|(log, header)| header.committed(log).ok()).unwrap_or_default();
        Pages { file: file.as_ref(), log: log.as_ref(), overlay, size }.rows()
    });
    // With a wrong page size, almost no page is valid.
    found.max_by_key(Vec::len).unwrap_or_default()
}

struct Pages<'a> {
    file: Option<&'a File>,
    log: Option<&'a File>,
    /// The offset in the log of the newest committed content of each page.
    overlay: BTreeMap<u32, u64>,
    size: usize,
}

impl Pages<'_> {
    fn rows(&self) -> Vec<Row> {
        let length = self.file.and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
        let in_file = u32::try_from(length.div_ceil(self.size as u64)).unwrap_or(u32::MAX);
        let last = self.overlay.keys().next_back().copied().unwrap_or(0).max(in_file);
        let free = self.free(last);
        let mut rows = Vec::new();
        for number in (1..=last).filter(|number| !free.contains(number)) {
            if let Some(page) = self.page(number) {
                self.rows_of(number, &page, &mut rows);
            }
        }
        rows
    }

    /// Returns a page, padded with zeros if the file ends early.
    fn page(&self, number: u32) -> Option<Vec<u8>> {
        let page = match (self.overlay.get(&number), self.log) {
            (Some(at), Some(log)) => read(log, *at, self.size),
            _ => read(self.file?, u64::from(number.checked_sub(1)?) * self.size as u64, self.size),
        };
        let mut page = page.ok()?;
        page.resize(self.size, 0);
        Some(page)
    }

    /// Returns the free pages, which have old content (section 1.5). If the list is damaged, the
    /// result is empty, so that it does not hide pages in use.
    fn free(&self, last: u32) -> BTreeSet<u32> {
        let mut free = BTreeSet::new();
        let Some(first) = self.page(1).filter(|page| page.starts_with(MAGIC)) else { return free };
        let mut trunk = u32_at(&first, 32).unwrap_or(0);
        while (2..=last).contains(&trunk) && free.insert(trunk) {
            let Some(page) = self.page(trunk) else { break };
            let leaves = page.get(8..).unwrap_or_default().chunks_exact(4);
            let count = u32_at(&page, 4).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
            free.extend(leaves.take(count).filter_map(|leaf| u32_at(leaf, 0)));
            trunk = u32_at(&page, 0).unwrap_or(0);
        }
        let is_whole = u32_at(&first, 36).and_then(|count| usize::try_from(count).ok()) == Some(free.len());
        if is_whole { free } else { BTreeSet::new() }
    }

    /// Adds the rows of one page (section 1.6), if it has rows.
    fn rows_of(&self, number: u32, page: &[u8], rows: &mut Vec<Row>) {
        let at = if number == 1 { HEADER } else { 0 };
        let (is_table, head, child) = match page.get(at) {
            Some(0x0d) => (true, 8, 0),
            Some(0x0a) => (false, 8, 0),
            Some(0x02) => (false, 12, 4),
            _ => return,
        };
        let count = usize::from(u16_at(page, at + 3).unwrap_or(0));
        let pointers = page.get(at + head..).unwrap_or_default().chunks_exact(2).take(count);
        for pointer in pointers.filter_map(|pointer| u16_at(pointer, 0)) {
            let cell = page.get(usize::from(pointer) + child..);
            rows.extend(cell.and_then(|cell| self.row(cell, is_table)));
        }
    }

    fn row(&self, cell: &[u8], is_table: bool) -> Option<Row> {
        let (length, rest) = varint(cell)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= limits::SALVAGED_ROW)?;
        let (id, rest) = if is_table { varint(rest)? } else { (0, rest) };
        let values = record(&self.payload(rest, length, is_table)?)?;
        Some(if is_table { Row::Table { id, values } } else { Row::Index { values } })
    }

    /// Returns the payload of a cell, from its page and its chain of overflow pages.
    fn payload(&self, cell: &[u8], length: usize, is_table: bool) -> Option<Vec<u8>> {
        let usable = self.size;
        let most = if is_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        if length <= most {
            return cell.get(..length).map(<[u8]>::to_vec);
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let fitting = least + (length - least) % (usable - 4);
        let local = if fitting <= most { fitting } else { least };
        let mut payload = cell.get(..local)?.to_vec();
        let mut next = u32_at(cell, local)?;
        // Each page adds bytes, so a cyclic chain also ends.
        while payload.len() < length {
            let page = self.page(next)?;
            let wanted = (length - payload.len()).min(usable - 4);
            payload.extend_from_slice(page.get(4..4 + wanted)?);
            next = u32_at(&page, 0)?;
        }
        (next == 0).then_some(payload)
    }
}

/// Returns the values of a record (section 2.1).
fn record(payload: &[u8]) -> Option<Vec<Value>> {
    let (head, mut types) = varint(payload)?;
    let head = usize::try_from(head).ok()?;
    let before = payload.len() - types.len();
    types = types.get(..head.checked_sub(before)?)?;
    let mut body = payload.get(head..)?;
    let mut values = Vec::new();
    while !types.is_empty() {
        let kind;
        (kind, types) = varint(types)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            12.. => usize::try_from((kind - 12) / 2).ok()?,
            _ => return None,
        };
        let bytes;
        (bytes, body) = body.split_at_checked(length)?;
        values.push(match kind {
            0 => Value::Null,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            1..=6 => Value::Integer(integer(bytes)),
            7 => Value::Real(f64::from_be_bytes(bytes.try_into().ok()?)),
            _ if kind % 2 == 1 => Value::Text(String::from_utf8(bytes.to_vec()).ok()?),
            _ => Value::Blob(bytes.to_vec()),
        });
    }
    Some(values)
}

/// Returns a signed big-endian integer.
fn integer(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |number, byte| (number << 8) | i64::from(*byte))
}

/// Reads an integer of 1 to 9 bytes. Returns it with the remaining bytes.
fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut number: u64 = 0;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            number = (number << 8) | u64::from(*byte);
        } else {
            number = (number << 7) | u64::from(byte & 0x7f);
        }
        if at == 8 || byte & 0x80 == 0 {
            return Some((number.cast_signed(), bytes.get(at + 1..)?));
        }
    }
    None
}

/// The header of a write-ahead log (section 4.1).
struct Log {
    page_size: usize,
    salts: [u8; 8],
    /// Whether the words of the checksum are big-endian.
    big: bool,
    sums: (u32, u32),
}

impl Log {
    fn read(log: &File) -> io::Result<Option<Self>> {
        let header = read(log, 0, 32)?;
        let whole = || {
            let magic = u32_at(&header, 0)?;
            let big = match magic {
                0x377f_0682 => false,
                0x377f_0683 => true,
                _ => return None,
            };
            let sums = checksum(big, (0, 0), header.get(..24)?);
            let salts = header.get(16..24)?.try_into().ok()?;
            let is_sound = (u32_at(&header, 24)?, u32_at(&header, 28)?) == sums;
            is_sound.then_some(Self { page_size: usize::try_from(u32_at(&header, 8)?).ok()?, salts, big, sums })
        };
        Ok(whole())
    }

    /// Returns the offset of the newest content of each page, up to the last complete commit
    /// (section 4.3).
    fn committed(&self, log: &File) -> io::Result<BTreeMap<u32, u64>> {
        let (mut committed, mut pending) = (BTreeMap::new(), BTreeMap::new());
        let (mut sums, mut at) = (self.sums, 32);
        loop {
            let frame = read(log, at, 24 + self.page_size)?;
            let (Some(head), Some(page)) =
                (frame.get(..24), frame.get(24..).filter(|page| page.len() == self.page_size))
            else {
                break;
            };
            sums = checksum(self.big, checksum(self.big, sums, head.get(..8).unwrap_or_default()), page);
            let is_sound = head.get(8..16) == Some(&self.salts)
                && (u32_at(head, 16), u32_at(head, 20)) == (Some(sums.0), Some(sums.1));
            let (Some(number), Some(size)) = (u32_at(head, 0), u32_at(head, 4)) else { break };
            if !is_sound {
                break;
            }
            pending.insert(number, at + 24);
            if size > 0 {
                committed.append(&mut pending);
            }
            at += 24 + self.page_size as u64;
        }
        Ok(committed)
    }
}

/// Returns the checksum of section 4.2 over a multiple of eight bytes.
fn checksum(big: bool, sums: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    bytes.as_chunks::<8>().0.iter().fold(sums, |(first, second), [a, b, c, d, e, f, g, h]| {
        let word = if big { u32::from_be_bytes } else { u32::from_le_bytes };
        let first = first.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(second);
        (first, second.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(first))
    })
}

/// Reads `length` bytes at an offset, or fewer at the end of the file.
fn read(file: &File, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..)?.first_chunk().copied()?))
}
