//! Runs commands and records what they print, without the parts that differ between runs and
//! machines.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::daemon::Daemon;
use crate::support::{Host, program};

/// Commands with their output, as on a console. A line of standard error begins with `! `, and an
/// exit code other than 0 is on a line that begins with `? `.
pub struct Transcript<'a> {
    host: &'a Host,
    text: String,
    hidden: Vec<(String, &'static str)>,
}

impl<'a> Transcript<'a> {
    pub fn new(host: &'a Host) -> Self {
        Self { host, text: String::new(), hidden: Vec::new() }
    }

    /// Shows a word as a placeholder from now on.
    pub fn hide(&mut self, word: &str, placeholder: &'static str) {
        self.hidden.push((word.to_owned(), placeholder));
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Daemon::command(self.host, &[("HECATE_LISTEN", "127.0.0.1")]);
        let git = Path::new(&program("git")).parent().unwrap().to_owned();
        command.env("PATH", git).env("COLUMNS", "40");
        let mut words = line.split(' ');
        while let Some(word) = words.next() {
            // Supports single quotes around words with spaces, like a shell.
            let mut word = word.to_owned();
            while word.matches('\'').count() == 1 {
                word = format!("{word} {}", words.next().expect("the quote ends"));
            }
            command.arg(word.replace('\'', ""));
        }
        command
    }

    /// Runs a command to its end. Returns its standard output as it was.
    pub fn run(&mut self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        self.record(line, &out, &err, output.status.code());
        out
    }

    /// Runs a command until it has printed `count` lines, and then kills it.
    pub fn first_lines(&mut self, line: &str, count: usize) {
        let mut command = self.command(line);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(count);
        let out: String = lines.map(|line| format!("{}\n", line.unwrap())).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        self.record(line, &out, &err, Some(0));
    }

    /// Runs a command on a terminal, and types a text.
    pub fn on_a_terminal(&mut self, line: &str, typed: &str) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let side = || std::fs::OpenOptions::new().read(true).write(true).open(&name).unwrap();
        let mut terminal = std::fs::File::from(terminal);
        let mut command = self.command(line);
        command.env("NO_COLOR", "1").stdin(side()).stdout(side()).stderr(side());
        let mut child = command.spawn().unwrap();
        drop(command);
        terminal.write_all(typed.as_bytes()).unwrap();
        let mut shown = Vec::new();
        // Fails when the last process has closed the other side.
        let _ = terminal.read_to_end(&mut shown);
        let status = child.wait().unwrap();
        // The terminal shows typed text at once, which may be before the prompt.
        let shown = String::from_utf8(shown).unwrap().replace("\r\n", "\n");
        let echo = typed.trim_end();
        let question =
            shown.strip_prefix(typed).map_or_else(|| shown.replacen(&format!("] {typed}"), "] ", 1), str::to_owned);
        let shown = question.replacen("[y/N] ", &format!("[y/N] {echo}\n"), 1);
        self.record(&format!("{line}  (on a terminal)"), &shown, "", status.code());
    }

    fn record(&mut self, line: &str, out: &str, err: &str, code: Option<i32>) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let is_help = line.split(' ').any(|word| matches!(word, "-h" | "--help"));
        let out = if is_help { out.to_owned() } else { aligned(&redacted(self, out)) };
        let err = redacted(self, err);
        let line = line.replace(&self.host.name, "beam00");
        self.text.push_str(format!("$ hecate-daemon {line}").trim_end());
        self.text.push('\n');
        self.text.push_str(&out);
        for line in err.lines() {
            self.text.push_str(format!("! {line}").trim_end());
            self.text.push('\n');
        }
        match code {
            Some(0) => {}
            Some(code) => self.text.push_str(&format!("? {code}\n")),
            None => self.text.push_str("? killed\n"),
        }
    }
}

/// Compares a transcript with its file below `tests/cli/`.
pub fn matches(transcript: Transcript<'_>, name: &str) {
    let path = format!("{}/tests/cli/{name}.console", env!("CARGO_MANIFEST_DIR"));
    let text: String = transcript.text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let expected = snapbox::Data::read_from(Path::new(&path), None).raw();
    snapbox::Assert::new().action_env("SNAPSHOTS").eq(snapbox::Data::text(text).raw(), expected);
}

/// Replaces values that differ between runs and machines: paths, host names, addresses, times,
/// pids, uids, ports, commits, hashes, and the versions of this program and of Erlang.
fn redacted(transcript: &Transcript<'_>, text: &str) -> String {
    let text = text
        .replace(&transcript.host.home().display().to_string(), "/home/user")
        .replace(concat!("hecate-daemon:", env!("CARGO_PKG_VERSION")), "hecate-daemon:[VERSION]");
    let text = between(&text, "Z (", ")", "[AGE]");
    let text = between(&text, "account's home is ", ";", "[HOME]");
    // Distribution flags.
    let text = between(&text, "PUBLISHED ", "\n", "[FLAGS]");
    let text = between(&text, "agreed on ", " with", "[N]");
    let text = between(&text, "up       ", "\n", "[AGE]");
    let text = between(&text, "(owned by uid ", ", process", "[UID], [USER]");
    let text = milliseconds(&text);
    // The daemon's own processes may join their groups at any time.
    let text = between(&text, "scope  pg: ", "\n", "[MEMBERS]");
    let mut out = String::new();
    let mut before = "";
    for piece in text.split_inclusive([' ', '\n']) {
        let end = piece.len() - piece.trim_end_matches([' ', '\n', ',', ';', ')', ':', '\'', '?']).len();
        let (piece, end) = piece.split_at(piece.len() - end);
        let start = piece.len() - piece.trim_start_matches(['(', '\'']).len();
        let (start, word) = piece.split_at(start);
        out.push_str(start);
        out.push_str(&redacted_word(transcript, before, word));
        out.push_str(end);
        if !word.is_empty() {
            before = word;
        }
    }
    out
}

fn milliseconds(text: &str) -> String {
    let mut pieces: Vec<&str> = text.split(" ms").collect();
    let last = pieces.pop().unwrap_or_default();
    let without = |piece: &str| piece.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned();
    let mut out: String = pieces.into_iter().map(|piece| without(piece) + "[N] ms").collect();
    out.push_str(last);
    out
}

/// Replaces each text between `before` and `after`.
fn between(text: &str, before: &str, after: &str, placeholder: &str) -> String {
    let mut pieces = text.split(before);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (_, rest) = piece.split_once(after).unwrap_or_default();
        out.extend([before, placeholder, after, rest]);
    }
    out
}

fn redacted_word(Transcript { host, hidden, .. }: &Transcript<'_>, before: &str, word: &str) -> String {
    let is_number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit());
    let is_time = word.len() > 18 && word.starts_with("20") && word.contains('T') && word.ends_with('Z');
    let is_commit = (7..=12).contains(&word.len()) && word.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let (name, of_host) = word.split_once('@').unwrap_or((word, ""));
    if let Some((_, placeholder)) = hidden.iter().find(|(hidden, _)| hidden == word) {
        return (*placeholder).to_owned();
    }
    match before {
        _ if is_time => "[TIME]".to_owned(),
        _ if is_commit => "[ID]".to_owned(),
        _ if word.len() == 24 && word.ends_with("==") => "[HASH]".to_owned(),
        _ if of_host == host.name => format!("{name}@beam00"),
        _ if of_host == "localhost" => "[NODE]@localhost".to_owned(),
        _ if word == host.name => "beam00".to_owned(),
        _ if word == env!("CARGO_PKG_VERSION") => "[VERSION]".to_owned(),
        _ if word == host.epmd_port.to_string() => "4369".to_owned(),
        "process" if is_number => "[PID]".to_owned(),
        "uid" if is_number => "[UID]".to_owned(),
        "at" if is_number => "[PORT]".to_owned(),
        _ => match (word.parse::<SocketAddr>(), word.parse::<IpAddr>()) {
            (Ok(address), _) if address.port() == host.epmd_port => "127.0.0.1:4369".to_owned(),
            (Ok(_), _) => "127.0.0.1:[PORT]".to_owned(),
            (_, Ok(_)) => "127.0.0.1".to_owned(),
            _ => word.to_owned(),
        },
    }
}

/// Makes columns as wide as their redacted cells, block by block.
fn aligned(text: &str) -> String {
    let blocks = text.split("\n\n").map(|block| {
        let rows: Vec<Vec<&str>> = block.lines().map(|line| cells(line).collect()).collect();
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let line = |row: &Vec<&str>| {
            let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column).unwrap_or(0)));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let lines: Vec<String> = rows.iter().map(line).collect();
        lines.join("\n")
    });
    let mut out = blocks.collect::<Vec<_>>().join("\n\n");
    if text.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// Splits a line at two or more spaces.
fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty())
}
