//! Text for people: cells in columns, colours, and the age of times.
//!
//! Cells always contain colours. `show` removes them unless standard output is a terminal and
//! `NO_COLOR` is unset.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};

use crate::cli::support::exit::Exit;
use crate::{escape, timestamp};

/// A piece of text in one colour, in which no text from outside can drive a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Cell {
    text: String,
    style: Style,
}

/// A state in the API, which has a colour.
pub(in crate::cli) trait State: fmt::Display {
    /// Returns the function that shows the state in its colour.
    fn colour(&self) -> fn(&str) -> Cell;
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

    /// A good state.
    pub(in crate::cli) fn good(text: &str) -> Self {
        Self::in_style(text, AnsiColor::Green.on_default())
    }

    /// A state that needs attention.
    pub(in crate::cli) fn warning(text: &str) -> Self {
        Self::in_style(text, AnsiColor::Yellow.on_default())
    }

    /// A bad state.
    pub(in crate::cli) fn bad(text: &str) -> Self {
        Self::in_style(text, AnsiColor::Red.on_default().bold())
    }

    /// A heading or a key.
    pub(in crate::cli) fn head(text: &str) -> Self {
        Self::in_style(text, Style::new().bold())
    }

    /// An unimportant detail.
    pub(in crate::cli) fn faint(text: &str) -> Self {
        Self::in_style(text, Style::new().dimmed())
    }

    /// A state in its colour.
    pub(in crate::cli) fn state<S: State>(state: &S) -> Self {
        let show = state.colour();
        show(&state.to_string())
    }

    /// Text without a colour.
    pub(in crate::cli) fn neutral(text: &str) -> Self {
        Self::from(text)
    }

    /// A text, or `-` if it is absent.
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

/// Formats rows of cells, each column as wide as its widest cell.
pub(in crate::cli) fn table(rows: &[Vec<Cell>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<Cell>| {
        let mut line = String::new();
        let mut gap = 0;
        for (cell, width) in row.iter().zip(&widths) {
            // Spaces come before a cell, so that no line ends with one.
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

/// Returns rows of a key and its value.
pub(in crate::cli) fn fields<const N: usize>(rows: [(&str, Cell); N]) -> Vec<Vec<Cell>> {
    rows.into_iter().map(|(key, value)| vec![Cell::head(key), value]).collect()
}

/// Formats a time of the API with its age. Returns any other text unchanged.
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

/// Formats a count with a word in the singular or the plural.
pub(in crate::cli) fn counted<T: fmt::Display + PartialEq + From<u8>>(count: T, one: &str, many: &str) -> String {
    format!("{count} {}", if count == T::from(1) { one } else { many })
}

/// Formats a duration in its largest whole unit.
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

/// Returns a text from outside on one line, and escapes characters that could drive a terminal.
pub(in crate::cli) fn plain(text: &str) -> String {
    escape::text(&text.replace(['\n', '\t'], " ")).into_owned()
}

/// The result of printing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(in crate::cli) enum Printed {
    /// Everything was printed.
    All,
    /// The reader has closed standard output, as `head` does. This is not a failure.
    Closed,
    /// Printing failed, for example because the disk is full. The error is reported.
    Failed,
}

impl Printed {
    /// Returns the exit code of a command that succeeded but for printing.
    pub(in crate::cli) fn exit(self) -> Exit {
        match self {
            Self::All | Self::Closed => Exit::Done,
            Self::Failed => Exit::Refused,
        }
    }
}

/// Prints for people: in colours on a terminal, unless `NO_COLOR` is set. All other control
/// characters are escaped.
pub(in crate::cli) fn show(text: &str) -> Printed {
    put(anstream::stdout(), &escape::coloured(text))
}

/// Prints JSON for programs, and escapes characters that could drive a terminal.
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
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Printed::Closed,
        Err(error) => {
            complain(&format!("cannot write to standard output: {error}"));
            Printed::Failed
        }
    }
}

/// Prints an error or a warning to standard error.
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
    fn columns_are_aligned_regardless_of_colours() {
        let rows =
            [vec![Cell::good("a"), "bb".into(), "x".into()], vec!["ccc".into(), Cell::bad(""), Cell::faint("y")]];
        assert_eq!(stripped(&table(&rows)), "a    bb  x\nccc      y\n");
        assert_eq!(stripped(&table(&[vec!["a".into(), "".into()]])), "a\n", "no spaces at the end");
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let cell = Cell::from("a\u{1b}[2Jb\nc\u{202e}\u{9b}");
        assert_eq!(stripped(&table(&[vec![cell]])), "a\\u{1b}[2Jb c\\u{202e}\\u{9b}\n");
    }

    #[test]
    fn times_are_shown_with_their_age() {
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
