//! The cookie: the secret that the nodes of a cluster share. It is proved, but never sent or
//! printed.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64;

use crate::limits;

/// A cookie. `Debug` hides it, and `Display` is not implemented.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(Arc<str>);

/// Why a text is not a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CookieTextError {
    /// The text is empty.
    #[error("the cookie is empty")]
    Empty,
    /// The text exceeds [`limits::COOKIE`].
    #[error("the cookie is longer than {max} characters", max = limits::COOKIE)]
    TooLong,
    /// The text has a character that is not printable ASCII.
    #[error("the cookie has a character that is not printable ASCII")]
    Character,
}

impl Cookie {
    /// Parses the bytes of a file or setting: printable ASCII up to the first line end. Only blanks
    /// and line ends may follow, which `erl` ignores too.
    ///
    /// # Errors
    /// [`CookieTextError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CookieTextError> {
        let end = bytes.iter().position(|byte| !(b' '..=b'~').contains(byte));
        let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        if rest.iter().any(|byte| !matches!(byte, b'\n' | b'\r' | b' ')) {
            return Err(CookieTextError::Character);
        }
        let text = str::from_utf8(text).map_err(|_| CookieTextError::Character)?;
        match text.len() {
            0 => Err(CookieTextError::Empty),
            length if length > limits::COOKIE => Err(CookieTextError::TooLong),
            _ => Ok(Self(text.into())),
        }
    }

    /// Returns the proof of the cookie: the MD5 of the cookie and the challenge in decimal
    /// (`gen_digest/2` in OTP's `dist_util.erl`).
    #[must_use]
    pub fn digest(&self, challenge: u32) -> [u8; 16] {
        md5::compute(format!("{}{challenge}", self.0)).0
    }

    /// Returns the secret, for the command that needs a library to prove it, and for tests.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Returns a fingerprint to compare the cookies of two nodes: the MD5 in base64, as RabbitMQ's
    /// diagnostics print it.
    #[must_use]
    pub fn hash(&self) -> String {
        BASE64.encode(&md5::compute(self.0.as_bytes()).0)
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_one_of_dist_util() {
        // erl: binary:encode_hex(erlang:md5(["secret", integer_to_list(4294967295)])).
        let hex: String =
            Cookie::parse(b"secret").unwrap().digest(u32::MAX).iter().map(|b| format!("{b:02X}")).collect();
        assert_eq!(hex, "5DFD181E69AA587CC812EB333E6536B6");
    }

    #[test]
    fn the_hash_is_base64_of_the_md5() {
        // erl: base64:encode(erlang:md5("secret")).
        assert_eq!(Cookie::parse(b"secret").unwrap().hash(), "Xr4ilOzQ4PCOq3aQ0qbuaQ==");
    }

    #[test]
    fn a_cookie_is_never_printed() {
        assert_eq!(format!("{:?}", Cookie::parse(b"secret").unwrap()), "Cookie(hidden)");
    }
}
