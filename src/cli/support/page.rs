//! How answers look to people: cells in columns, the few colours, and times told as how long ago. It knows no answer.
//!
//! Colours are always written; what prints takes them off again unless a terminal reads and `NO_COLOR` is unset.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};

use crate::cli::support::exit::Exit;
use crate::{escape, timestamp};

/// A piece of text in one colour. What others wrote cannot drive a terminal through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Cell {
    text: String,
    style: Style,
}

/// A word of the API for how something is.
pub(in crate::cli) trait State: fmt::Display {
    /// Returns what shows the word in its colour.
    fn tone(&self) -> fn(&str) -> Cell;
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: plain(&text.into()), style: Style::new() }
    }
}

impl Cell {
    fn in_style(text: &str, style: Style) -> Self {
        Self { text: plain(text), style }
    }

    /// Well.
    pub(in crate::cli) fn good(text: &str) -> Self {
        Self::in_style(text, AnsiColor::Green.on_default())
    }

    /// To be looked at.
    pub(in crate::cli) fn odd(text: &str) -> Self {
        Self::in_style(text, AnsiColor::Yellow.on_default())
    }

    /// Wrong.
    pub(in crate::cli) fn bad(text: &str) -> Self {
        Self::in_style(text, AnsiColor::Red.on_default().bold())
    }

    /// Heads and keys.
    pub(in crate::cli) fn head(text: &str) -> Self {
        Self::in_style(text, Style::new().bold())
    }

    /// Besides.
    pub(in crate::cli) fn faint(text: &str) -> Self {
        Self::in_style(text, Style::new().dimmed())
    }

    /// A word of the API for how something is, in the colour that it deserves.
    pub(in crate::cli) fn state<S: State>(state: &S) -> Self {
        let show = state.tone();
        show(&state.to_string())
    }

    /// Without a colour.
    pub(in crate::cli) fn neutral(text: &str) -> Self {
        Self::from(text)
    }

    /// What may be absent.
    pub(in crate::cli) fn optional(text: Option<&str>) -> Self {
        text.map_or_else(|| Self::faint("-"), Self::from)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn painted(&self) -> String {
        format!("{}{}{}", self.style.render(), self.text, self.style.render_reset())
    }
}

/// Lines of cells, each column as wide as its widest cell.
pub(in crate::cli) fn table(rows: &[Vec<Cell>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<Cell>| {
        let mut line = String::new();
        let mut gap = 0;
        for (cell, width) in row.iter().zip(&widths) {
            // Blanks come before a cell, so that none end a line.
            if cell.width() > 0 {
                line.push_str(&" ".repeat(gap));
                line.push_str(&cell.painted());
                gap = 0;
            }
            gap += width - cell.width() + 2;
        }
        line.push('\n');
        line
    };
    rows.iter().map(line).collect()
}

/// Keys with their values, one a line.
pub(in crate::cli) fn fields<const N: usize>(rows: [(&str, Cell); N]) -> Vec<Vec<Cell>> {
    rows.into_iter().map(|(key, value)| vec![Cell::head(key), value]).collect()
}

/// A time of the API, with how long ago that was. What is no time stays as it is.
pub(in crate::cli) fn since(time: &str, now: SystemTime) -> String {
    let Ok(then) = humantime::parse_rfc3339(time) else {
        return time.to_owned();
    };
    let ago = match now.duration_since(then) {
        Ok(past) if past.as_secs() > 0 => format!("{} ago", rough(past)),
        _ => "just now".to_owned(),
    };
    format!("{} ({ago})", timestamp::seconds(then))
}

/// A duration in its largest whole unit.
pub(in crate::cli) fn rough(duration: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match duration.as_secs() {
        seconds @ ..60 => format!("{seconds} s"),
        seconds @ ..3600 => format!("{} min", seconds / 60),
        seconds @ ..DAY => format!("{} h", seconds / 3600),
        seconds if seconds < 2 * DAY => "1 day".to_owned(),
        seconds => format!("{} days", seconds / DAY),
    }
}

/// What others wrote, on one line and without what could drive a terminal.
pub(in crate::cli) fn plain(text: &str) -> String {
    // The lines of a description become one.
    escape::text(&text.replace(['\n', '\t'], " ")).into_owned()
}

/// Where what was printed has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(in crate::cli) enum Printed {
    /// To whoever reads.
    All,
    /// To a reader that has gone, as `head` does: no failure of ours, and no more is wanted.
    Unwanted,
    /// Nowhere, as with a full disk. Why is told already.
    Lost,
}

impl Printed {
    /// How a command ends that had nothing to do but to print.
    pub(in crate::cli) fn exit(self) -> Exit {
        match self {
            Self::All | Self::Unwanted => Exit::Done,
            Self::Lost => Exit::Refused,
        }
    }
}

/// Prints for people: in colours on a terminal, unless `NO_COLOR` is set. All other control
/// characters are escaped.
pub(in crate::cli) fn show(text: &str) -> Printed {
    put(anstream::stdout(), &escape::coloured(text))
}

/// Prints JSON for programs, which cannot drive a terminal either.
pub(in crate::cli) fn write(json: &str) -> Printed {
    put(io::stdout(), &escape::json(json))
}

/// Prints a text of this program byte for byte, such as a script.
pub(in crate::cli) fn verbatim(text: &str) -> Printed {
    put(io::stdout(), text)
}

fn put(mut out: impl Write, text: &str) -> Printed {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Printed::All,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Printed::Unwanted,
        Err(error) => {
            complain(&format!("what was to be printed is lost: {error}; look where standard output leads"));
            Printed::Lost
        }
    }
}

/// Tells people why something did not work, and what to do.
pub(in crate::cli) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "hecate-daemon: {}", plain(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_line_up_whatever_their_colours() {
        let rows =
            [vec![Cell::good("a"), "bb".into(), "x".into()], vec!["ccc".into(), Cell::bad(""), Cell::faint("y")]];
        assert_eq!(stripped(&table(&rows)), "a    bb  x\nccc      y\n");
        assert_eq!(stripped(&table(&[vec!["a".into(), "".into()]])), "a\n", "no blanks at the end");
    }

    #[test]
    fn a_terminal_is_not_driven_by_others() {
        let cell = Cell::from("a\u{1b}[2Jb\nc\u{202e}\u{9b}");
        assert_eq!(stripped(&table(&[vec![cell]])), "a\\u{1b}[2Jb c\\u{202e}\\u{9b}\n");
    }

    #[test]
    fn times_are_told_as_how_long_ago() {
        let now = humantime::parse_rfc3339("2026-11-23T12:00:00Z").expect("a time");
        for (time, expected) in [
            ("2026-11-23T11:59:59.500Z", "2026-11-23T11:59:59Z (just now)"),
            ("2026-11-23T11:59:18Z", "2026-11-23T11:59:18Z (42 s ago)"),
            ("2026-11-23T11:00:01Z", "2026-11-23T11:00:01Z (59 min ago)"),
            ("2026-11-23T09:00:00Z", "2026-11-23T09:00:00Z (3 h ago)"),
            ("2026-11-22T11:00:00Z", "2026-11-22T11:00:00Z (1 day ago)"),
            ("2026-11-01T12:00:00Z", "2026-11-01T12:00:00Z (22 days ago)"),
            ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z (just now)"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(since(time, now), expected);
        }
    }
}
