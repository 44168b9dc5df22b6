//! Escapes text from outside, such as names from EPMD and from peers, so that it cannot control a
//! terminal: move the cursor, reorder or hide text, or begin a line. Pure.
//!
//! The escaped characters are, in the terms of the Unicode Character Database, general category Cc,
//! `Bidi_Control`, zero-width and invisible format characters, and the two line separators.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns whether a character is a control, bidirectional or line-separator character. The fields
/// of a registration must not contain these.
#[must_use]
pub fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Returns whether a character is escaped: a forbidden one, or one without width. Some languages
/// need characters without width in words, so a registration may contain them.
#[must_use]
pub fn is_escaped(c: char) -> bool {
    is_forbidden(c)
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Escapes text for people: each character for which [`is_escaped`] is true becomes an escape
/// sequence of Rust, such as `\n` or `\u{1b}`.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    replaced(text, is_escaped, escape)
}

/// Escapes like [`text`], but keeps line ends.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c != '\n' && is_escaped(c), escape)
}

/// Escapes like [`lines`], but also keeps sequences that set colour and weight (`ESC [ … m`).
#[must_use]
pub fn coloured(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        shown.push_str(&lines(before));
        let style = after.strip_prefix('[').and_then(|after| after.split_once('m')).map(|(style, _)| style);
        match style.filter(|style| style.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')) {
            Some(_) => shown.push('\u{1b}'),
            None => escape(&mut shown, '\u{1b}'),
        }
        rest = after;
    }
    if shown.is_empty() {
        return lines(rest);
    }
    shown.push_str(&lines(rest));
    Cow::Owned(shown)
}

/// Escapes JSON text: each character for which [`is_escaped`] is true becomes a JSON escape such as
/// `\u001b`, which has the same value. Line ends are kept, because in JSON they are always outside
/// strings. A character outside the basic plane becomes a surrogate pair (RFC 8259, section 7).
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    replaced(
        text,
        |c| c != '\n' && is_escaped(c),
        |shown, c| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string never fails.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        },
    )
}

fn escape(shown: &mut String, c: char) {
    match c {
        '\n' => shown.push_str("\\n"),
        '\t' => shown.push_str("\\t"),
        '\r' => shown.push_str("\\r"),
        // Writing to a string never fails.
        c => drop(write!(shown, "\\u{{{:x}}}", u32::from(c))),
    }
}

fn replaced(text: &str, is_replaced: impl Fn(char) -> bool, replace: impl Fn(&mut String, char)) -> Cow<'_, str> {
    // Fast path, since most text is printable ASCII.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.contains(&is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_replaced(c) { replace(&mut shown, c) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Generates text with many characters that must be escaped.
    fn any_text() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            '\n',
            '\r',
            '\t',
            '\u{1b}',
            '[',
            'm',
            '3',
            ';',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{202e}',
            '\u{2066}',
            '\u{200b}',
            '\u{2028}',
            '\u{feff}',
            '\u{e0041}',
            '"',
            '\\',
        ]);
        prop::collection::vec(prop_oneof![any::<char>(), odd], 0..40).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn no_escaped_text_can_drive_a_terminal(given in any_text()) {
            prop_assert!(!text(&given).contains(is_escaped));
            prop_assert!(!lines(&given).contains(|c| c != '\n' && is_escaped(c)));
            prop_assert!(!json(&given).contains(|c| c != '\n' && is_escaped(c)));
            let uncoloured = anstream::adapter::strip_str(&coloured(&given)).to_string();
            prop_assert!(!uncoloured.contains(|c| c != '\n' && is_escaped(c)), "{uncoloured:?}");
        }

        #[test]
        fn escaped_json_has_the_same_value(given in any_text()) {
            let written = serde_json::to_string(&given).unwrap();
            let shown = json(&written);
            prop_assert!(!shown.contains(is_escaped));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), given);
        }
    }

    #[test]
    fn control_characters_become_escapes_and_words_are_kept() {
        assert_eq!(text("a\u{1b}[2Jb\nc\u{202e}\u{9b}"), "a\\u{1b}[2Jb\\nc\\u{202e}\\u{9b}");
        assert_eq!(text("größer \u{5d0} 日本"), "größer \u{5d0} 日本");
        assert!(matches!(text("größer"), Cow::Borrowed(_)), "nothing is copied");
        assert_eq!(lines("a\nb\u{85}"), "a\nb\\u{85}");
        assert_eq!(json("{\"a\":\"\u{9b}\u{e0041}\"}\n"), "{\"a\":\"\\u009b\\udb40\\udc41\"}\n");
        assert_eq!(
            coloured("\u{1b}[1;31mred\u{1b}[0m\u{1b}[2J\u{1b}]0;m"),
            "\u{1b}[1;31mred\u{1b}[0m\\u{1b}[2J\\u{1b}]0;m"
        );
    }

    #[test]
    fn characters_without_width_are_allowed_and_escaped() {
        for c in ['\u{200c}', '\u{200d}', '\u{feff}'] {
            assert!(!is_forbidden(c) && is_escaped(c), "{c:?}");
        }
        for c in ['\0', '\n', '\u{7f}', '\u{9f}', '\u{61c}', '\u{202e}', '\u{2069}', '\u{2029}'] {
            assert!(is_forbidden(c) && is_escaped(c), "{c:?}");
        }
    }
}
