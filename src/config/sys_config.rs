//! Reads the settings of `hecate` from a `sys.config`: `[{hecate, [{Key, Value}, ...]}, ...].`
//!
//! The crate `erl_tokenize` splits the text into tokens; nothing is evaluated. Other applications,
//! and the values of unknown keys, are skipped by matching brackets. Size and depth are limited.
//! The syntax follows config(4) of OTP's kernel, without the inclusion of other files.

use std::path::{Path, PathBuf};

use erl_tokenize::{Position, Symbol, Token, TokenKind, TokenValue};

use super::error::SyntaxError;
use super::source::Source;
use super::value::{Given, Value};
use crate::limits;

/// The settings of `hecate` in the file.
#[derive(Default)]
pub(super) struct SysConfig {
    path: PathBuf,
    entries: Vec<Entry>,
}

struct Entry {
    key: String,
    line: usize,
    /// None for an unknown key.
    value: Option<Value>,
}

impl SysConfig {
    /// Parses the text of a file. `known` returns whether a key is a setting of hecate.
    ///
    /// # Errors
    /// The first [`SyntaxError`].
    pub(super) fn parse(path: &Path, text: &str, known: impl Fn(&str) -> bool) -> Result<Self, SyntaxError> {
        let mut parser = Parser { text, position: Position::new(), peeked: None };
        Ok(Self { path: path.to_owned(), entries: parser.file(&known)? })
    }

    /// Returns the value of a known key.
    pub(super) fn get(&self, key: &str) -> Option<Given> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(Given::new(entry.value.clone()?, self.source(entry)))
    }

    /// Returns the unknown keys inside `hecate`, with their sources.
    pub(super) fn unknown(&self) -> impl Iterator<Item = (&str, Source)> {
        let unknown = self.entries.iter().filter(|entry| entry.value.is_none());
        unknown.map(|entry| (entry.key.as_str(), self.source(entry)))
    }

    fn source(&self, entry: &Entry) -> Source {
        Source::File { path: self.path.clone(), line: entry.line }
    }
}

struct Parser<'a> {
    text: &'a str,
    position: Position,
    peeked: Option<Token>,
}

impl<'a> Parser<'a> {
    fn file(&mut self, known: &impl Fn(&str) -> bool) -> Result<Vec<Entry>, SyntaxError> {
        let mut hecate = None;
        self.expect(Symbol::OpenSquare, "`[`, the beginning of the list of applications")?;
        if !self.take(Symbol::CloseSquare)? {
            loop {
                self.expect(Symbol::OpenBrace, "`{Application, [...]}` (inclusion of other files is not supported)")?;
                let line = self.line();
                let application = self.atom("the name of an application")?;
                self.expect(Symbol::Comma, "`,`")?;
                if application != "hecate" {
                    self.skip_rest_of_tuple()?;
                } else if hecate.is_some() {
                    return Err(syntax(line, "`hecate` once", "a second `hecate`"));
                } else {
                    hecate = Some(self.entries(known)?);
                    self.expect(Symbol::CloseBrace, "`}` after the settings of hecate")?;
                }
                if self.end_of_list()? {
                    break;
                }
            }
        }
        self.expect(Symbol::Dot, "`.` at the end")?;
        match self.next()? {
            None => Ok(hecate.unwrap_or_default()),
            Some(token) => Err(self.unexpected(Some(token), "nothing after the first term")),
        }
    }

    /// Reads the list after `{hecate,`.
    fn entries(&mut self, known: &impl Fn(&str) -> bool) -> Result<Vec<Entry>, SyntaxError> {
        let mut entries: Vec<Entry> = Vec::new();
        self.expect(Symbol::OpenSquare, "`[`, the list of the settings of hecate")?;
        if self.take(Symbol::CloseSquare)? {
            return Ok(entries);
        }
        loop {
            self.expect(Symbol::OpenBrace, "a setting, `{Key, Value}`")?;
            let key = self.atom("the name of a setting")?;
            let line = self.line();
            self.expect(Symbol::Comma, "`,`")?;
            let value = if known(&key) {
                let value = self.value(0)?;
                self.expect(Symbol::CloseBrace, "`}` after the value")?;
                Some(value)
            } else {
                self.skip_rest_of_tuple()?;
                None
            };
            if entries.iter().any(|entry| entry.key == key) {
                return Err(syntax(line, "each setting once", &format!("a second `{key}`")));
            }
            entries.push(Entry { key, line, value });
            if self.end_of_list()? {
                return Ok(entries);
            }
        }
    }

    /// Reads the value of a setting: text, a number, or a list of values.
    fn value(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        const EXPECTED: &str = "a string, an atom, a whole number or a list of them";
        if depth >= limits::SYS_CONFIG_DEPTH {
            return Err(syntax(self.line(), "less nesting", "a term nested too deeply"));
        }
        let token = self.next()?;
        match token.map(|token| token.value(self.text)) {
            Some(TokenValue::Atom(text)) => Ok(Value::Text(text.into_owned())),
            Some(TokenValue::Integer(Some(number))) => Ok(Value::Number(number)),
            Some(TokenValue::String(text)) => self.rest_of_string(text.into_owned()),
            Some(TokenValue::Symbol(Symbol::DoubleLeftAngle)) => {
                let token = self.next()?;
                let Some(TokenValue::String(text)) = token.map(|token| token.value(self.text)) else {
                    return Err(self.unexpected(token, "a string inside `<<...>>`"));
                };
                let value = self.rest_of_string(text.into_owned())?;
                // A binary with characters beyond Latin-1 is written `<<"text"/utf8>>`.
                if self.take(Symbol::Slash)? {
                    self.atom("`utf8`")?;
                }
                self.expect(Symbol::DoubleRightAngle, "`>>`")?;
                Ok(value)
            }
            Some(TokenValue::Symbol(Symbol::OpenSquare)) => {
                let mut values = Vec::new();
                if self.take(Symbol::CloseSquare)? {
                    return Ok(Value::List(values));
                }
                loop {
                    values.push(self.value(depth.saturating_add(1))?);
                    if self.end_of_list()? {
                        return Ok(Value::List(values));
                    }
                }
            }
            _ => Err(self.unexpected(token, EXPECTED)),
        }
    }

    /// Reads the strings that follow, which Erlang joins with `text`.
    fn rest_of_string(&mut self, mut text: String) -> Result<Value, SyntaxError> {
        while let Some(token) = self.peek()? {
            let TokenValue::String(more) = token.value(self.text) else {
                break;
            };
            text.push_str(&more);
            self.next()?;
        }
        Ok(Value::Text(text))
    }

    /// Skips the rest of the current tuple with its `}`, matching all brackets in between.
    fn skip_rest_of_tuple(&mut self) -> Result<(), SyntaxError> {
        let mut awaited = vec![Symbol::CloseBrace];
        while let Some(expected) = awaited.last().copied() {
            let token = self.next()?;
            let Some(token) = token else {
                return Err(self.unexpected(None, &format!("`{}`", expected.as_str())));
            };
            let TokenValue::Symbol(symbol) = token.value(self.text) else {
                continue;
            };
            match symbol {
                Symbol::OpenBrace => awaited.push(Symbol::CloseBrace),
                Symbol::OpenSquare => awaited.push(Symbol::CloseSquare),
                Symbol::OpenParen => awaited.push(Symbol::CloseParen),
                Symbol::DoubleLeftAngle => awaited.push(Symbol::DoubleRightAngle),
                Symbol::CloseBrace | Symbol::CloseSquare | Symbol::CloseParen | Symbol::DoubleRightAngle => {
                    if symbol != expected {
                        return Err(self.unexpected(Some(token), &format!("`{}`", expected.as_str())));
                    }
                    awaited.pop();
                }
                Symbol::Dot => return Err(self.unexpected(Some(token), &format!("`{}`", expected.as_str()))),
                _ => {}
            }
            if awaited.len() > limits::SYS_CONFIG_DEPTH {
                return Err(syntax(self.line(), "less nesting", "a term nested too deeply"));
            }
        }
        Ok(())
    }

    /// Reads `,` or `]`. Returns whether it is the end of the list.
    fn end_of_list(&mut self) -> Result<bool, SyntaxError> {
        if self.take(Symbol::Comma)? {
            return Ok(false);
        }
        self.expect(Symbol::CloseSquare, "`,` or `]`")?;
        Ok(true)
    }

    fn atom(&mut self, expected: &str) -> Result<String, SyntaxError> {
        let token = self.next()?;
        match token.map(|token| token.value(self.text)) {
            Some(TokenValue::Atom(atom)) => Ok(atom.into_owned()),
            _ => Err(self.unexpected(token, expected)),
        }
    }

    fn expect(&mut self, symbol: Symbol, expected: &str) -> Result<(), SyntaxError> {
        if self.take(symbol)? {
            return Ok(());
        }
        let token = self.next()?;
        Err(self.unexpected(token, expected))
    }

    fn take(&mut self, symbol: Symbol) -> Result<bool, SyntaxError> {
        let is_it = self.peek()?.is_some_and(|token| token.kind() == TokenKind::Symbol(symbol));
        if is_it {
            self.peeked = None;
        }
        Ok(is_it)
    }

    fn next(&mut self) -> Result<Option<Token>, SyntaxError> {
        let token = self.peek()?;
        self.peeked = None;
        Ok(token)
    }

    /// Returns the next token that is not whitespace or a comment, without consuming it.
    fn peek(&mut self) -> Result<Option<Token>, SyntaxError> {
        while self.peeked.is_none() {
            let scanned = erl_tokenize::scan_token(self.text, self.position);
            let token = scanned.map_err(|error| {
                let line = error.position.line().get();
                syntax(line, "Erlang terms", error.kind.message())
            })?;
            let Some(token) = token else {
                return Ok(None);
            };
            self.position = token.end();
            if token.kind().is_lexical() {
                self.peeked = Some(token);
            }
        }
        Ok(self.peeked)
    }

    fn line(&self) -> usize {
        self.position.line().get()
    }

    fn unexpected(&self, token: Option<Token>, expected: &str) -> SyntaxError {
        match token {
            None => syntax(self.line(), expected, "the end of the file"),
            Some(token) => {
                let start: String = token.text(self.text).chars().take(20).collect();
                syntax(token.start().line().get(), expected, &format!("`{start}`"))
            }
        }
    }
}

fn syntax(line: usize, expected: &str, found: &str) -> SyntaxError {
    SyntaxError { line, expected: expected.to_owned(), found: found.to_owned() }
}

#[cfg(test)]
#[path = "sys_config_tests.rs"]
mod tests;
