//! Parses server-sent events as they arrive: "Interpreting an event stream" of the HTML standard,
//! without `retry`. Pure. An event that is too large is an error.
//!
//! `sse-stream`, `sseer` and `eventsource-stream` buffer events of any size, and end the stream on
//! invalid UTF-8. A caller cannot bound the bytes, because those crates do not report heartbeats.

use crate::limits;

/// A server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Event {
    /// The name; `message` if the stream has none.
    pub name: String,
    /// The id, if the event has one.
    pub id: Option<String>,
    /// The data lines, joined.
    pub data: String,
}

/// An event has more than [`limits::CLIENT_EVENT`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct TooLarge;

/// A parser with the incomplete event at the end of the stream.
#[derive(Debug, Default)]
pub(in crate::cli) struct Parser {
    line: Vec<u8>,
    /// Whether the last byte was a CR, whose LF belongs to it.
    after_cr: bool,
    event: Event,
    has_data: bool,
}

impl Parser {
    /// Parses bytes that have arrived, and appends complete events to `out`.
    pub(in crate::cli) fn feed(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), TooLarge> {
        for &byte in bytes {
            let lf_of_cr = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if lf_of_cr => {}
                b'\n' | b'\r' => self.end_line(out),
                _ if self.line.len().saturating_add(self.event.data.len()) >= limits::CLIENT_EVENT => {
                    return Err(TooLarge);
                }
                byte => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self, out: &mut Vec<Event>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                if event.name.is_empty() {
                    "message".clone_into(&mut event.name);
                }
                out.push(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A comment, or an unknown field.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, id: Option<&str>, data: &str) -> Event {
        Event { name: name.to_owned(), id: id.map(str::to_owned), data: data.to_owned() }
    }

    #[test]
    fn events_are_complete_regardless_of_how_they_arrive() {
        let stream = ": heartbeat\n\nevent: a_v1\nid: 7\ndata: {\"x\":\"\u{e4}: \"}\n\ndata:1\r\ndata: 2\r\n\r\n\
                      event: b_v1\nid: 8\n\nretry: 5\rid\rdata\r\r";
        let expected = [
            event("a_v1", Some("7"), "{\"x\":\"\u{e4}: \"}"),
            event("message", None, "1\n2"),
            event("message", Some(""), ""),
        ];
        for size in 1..stream.len() {
            let (mut parser, mut out) = (Parser::default(), Vec::new());
            for piece in stream.as_bytes().chunks(size) {
                parser.feed(piece, &mut out).expect("small");
            }
            assert_eq!(out, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_is_bounded() {
        let mut out = Vec::new();
        let data = "x".repeat(limits::CLIENT_EVENT - "data: ".len());
        Parser::default().feed(format!("data: {data}\n\n").as_bytes(), &mut out).expect("fits");
        assert_eq!(out.pop().map(|event| event.data.len()), Some(data.len()));
        assert_eq!(Parser::default().feed(format!("data: {data}x").as_bytes(), &mut out), Err(TooLarge));
        let mut parser = Parser::default();
        parser.feed(format!("data: {data}\n").as_bytes(), &mut out).expect("fits");
        assert_eq!(parser.feed(b"data: and more", &mut out), Err(TooLarge), "lines add up");
    }
}
