//! Writes the log to standard error, one event per line, as text or JSON. For the journal, a line
//! begins with its priority and has no time, which the journal adds. Only a terminal gets colours.
//!
//! Modules log through `tracing`; `limit` bounds the lines that outsiders can trigger. Follows
//! sd-daemon(3) for priorities, systemd.exec(5) for `JOURNAL_STREAM`, and no-color.org.

pub mod limit;

use std::borrow::Cow;
use std::fmt;
use std::io::{IsTerminal, Write};

use anstyle::Style;
use tracing::field::Field;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, JsonFields, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::escape;

/// The format of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// Starts the log. `filter` is in the syntax of [`Targets`]; [`crate::config`] has checked it.
pub fn start(filter: &str, format: Format) {
    let journal = is_journal();
    let colours =
        !journal && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").unwrap_or_default().is_empty();
    let filter: Targets = filter.parse().unwrap_or_default();
    let lines = layer(format, journal, colours, std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
}

fn layer<S, W>(format: Format, journal: bool, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = lines::layer().with_writer(writer).with_ansi(colours);
    let text = format::format().with_ansi(colours);
    let fields = format::debug_fn(field).delimited(" ");
    match format {
        Format::Text if journal => {
            let line = Line { form: text.without_time(), journal, escape: escape::coloured };
            lines.event_format(line).fmt_fields(fields).boxed()
        }
        Format::Text => {
            lines.event_format(Line { form: text, journal, escape: escape::coloured }).fmt_fields(fields).boxed()
        }
        Format::Json => {
            let line = Line { form: format::format().json().flatten_event(true), journal, escape: escape::json };
            lines.event_format(line).fmt_fields(JsonFields::new()).boxed()
        }
    }
}

/// Reports on standard error why the daemon does not start, before the log is started.
pub fn refuse(why: &dyn fmt::Display) {
    let level = if is_journal() { prefix(Level::ERROR) } else { "" };
    let _ = writeln!(std::io::stderr(), "{level}hecate-daemon: {}", escape::lines(&why.to_string()));
}

/// Returns whether standard output and standard error are the same terminal or file, so that a
/// reader of the log sees both.
#[must_use]
pub fn shares_standard_output() -> bool {
    let file = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino, stat.st_rdev);
    let [output, error] = [rustix::fs::fstat(std::io::stdout()), rustix::fs::fstat(std::io::stderr())];
    matches!((output, error), (Ok(output), Ok(error)) if file(output) == file(error))
}

/// Returns whether standard error is the stream to the journal that systemd opened, not a file that
/// a shell redirected it to.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let here = rustix::fs::fstat(std::io::stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    here.is_ok_and(|here| here == stream)
}

/// Returns the syslog(3) priority in the form in which the journal expects it before a line.
fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Formats a field as `tracing_subscriber` does, but escapes its value, which peers and clients may
/// have written.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = escape::text(&value);
    let italic = Style::new().italic();
    match field.name() {
        "message" => writer.write_str(&value),
        name if writer.has_ansi_escapes() => write!(writer, "{italic}{name}{italic:#}={value}"),
        name => write!(writer, "{name}={value}"),
    }
}

/// Formats every event as one line.
struct Line<F> {
    form: F,
    journal: bool,
    /// Escapes the complete line.
    escape: fn(&str) -> Cow<'_, str>,
}

impl<S, N, F> FormatEvent<S, N> for Line<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.form.format_event(context, Writer::new(&mut line), event)?;
        if self.journal {
            writer.write_str(prefix(*event.metadata().level()))?;
        }
        // A line break in a field would let an outsider forge an event.
        writeln!(writer, "{}", (self.escape)(&line.trim_end_matches('\n').replace('\n', "\\n")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Returns the log line of an event with a message and two fields that others wrote.
    fn written(format: Format, colours: bool, text: &str) -> String {
        let log = Sink::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::registry().with(layer(format, false, colours, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || tracing::info!(peer = %text, code = text, "{text}"));
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_field_of_the_log_can_drive_a_terminal(text in "(\\PC|\\pC|[\u{1b}\u{9b}\u{202e}\n\\[m;2J]){0,20}") {
            for format in [Format::Text, Format::Json] {
                let line = written(format, false, &text);
                let line = line.strip_suffix('\n').unwrap();
                prop_assert!(!line.contains(escape::is_escaped), "{line:?}");
            }
            let line = written(Format::Text, true, &text);
            let plain = written(Format::Text, false, &text);
            let uncoloured = anstream::adapter::strip_str(&line).to_string();
            let after_time = |line: &str| line.split_once(' ').map(|(_, rest)| rest.to_owned());
            prop_assert_eq!(after_time(&uncoloured), after_time(&plain), "only the log sets colours");
        }
    }

    #[test]
    fn json_keeps_the_values_of_fields() {
        let line = written(Format::Json, false, "a\u{9b}b");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&event["message"], &event["peer"], &event["code"]),
            (&"a\u{9b}b".into(), &"a\u{9b}b".into(), &"a\u{9b}b".into())
        );
    }
}
