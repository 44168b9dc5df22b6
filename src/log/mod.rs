//! How the log is written: one event a line on standard error, as text or JSON; for the journal with the level in front and
//! without what it adds itself; in colours on a terminal only.
//!
//! What is said is everybody's own business, by `tracing`; how often outsiders can make us say it is `limit`'s. Follows
//! sd-daemon(3) for levels, systemd.exec(5) for `JOURNAL_STREAM`, and no-color.org.

pub mod limit;

use std::fmt;
use std::io::{IsTerminal, Write};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, JsonFields, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The form of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one object a line.
    Json,
}

/// Starts the log. `filter` is in the syntax of [`Targets`], and was checked when it was read.
pub fn start(filter: &str, format: Format) {
    let journal = is_journal();
    let colours =
        !journal && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").unwrap_or_default().is_empty();
    let filter: Targets = filter.parse().unwrap_or_default();
    let lines = lines::layer().with_writer(std::io::stderr).with_ansi(colours);
    let text = format::format().with_ansi(colours);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        Format::Text if journal => {
            registry.with(lines.event_format(Line { form: text.without_time(), journal })).init();
        }
        Format::Text => registry.with(lines.event_format(Line { form: text, journal })).init(),
        Format::Json => {
            let form = format::format().json().flatten_event(true);
            registry.with(lines.event_format(Line { form, journal }).fmt_fields(JsonFields::new())).init();
        }
    }
}

/// Says why there is no daemon, where there is no log yet.
pub fn refuse(why: &dyn fmt::Display) {
    let level = if is_journal() { prefix(Level::ERROR) } else { "" };
    let _ = writeln!(std::io::stderr(), "{level}hecate-daemon: {why}");
}

/// Whether standard error is the journal itself, and not what a shell has put in its place.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let here = rustix::fs::fstat(std::io::stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    here.is_ok_and(|here| here == stream)
}

/// The priority of syslog(3) as the journal reads it off a line.
fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// An event in one line, whatever stands in it.
struct Line<F> {
    form: F,
    journal: bool,
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
        // Who could begin a line could write an event that never was.
        writeln!(writer, "{}", line.trim_end_matches('\n').replace('\n', "\\n"))
    }
}
