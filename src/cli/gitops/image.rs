//! References of container images. An [`Image`] contains no character that is special to YAML,
//! systemd, podman or a shell. Pure: does not check that the image exists.

use std::fmt;

use crate::limits;

/// A reference with a tag or a digest: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, in the grammar of the
/// OCI distribution specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Image(String);

/// Why a reference was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ImageError {
    #[error("the image has neither a tag nor a digest; add one, as in `hecate-traderd:0.1.0`")]
    Floating,
    #[error("the name of the image exceeds the {max}-byte limit", max = limits::IMAGE_NAME)]
    TooLong,
    #[error(
        "not an image reference; use one such as `registry.example/hecate-traderd:0.1.0`: lowercase letters, digits, `.`, \
         `_` and `-`, separated by `/`, then `:` and a tag, or `@` and a digest"
    )]
    Malformed,
}

impl Image {
    /// Returns the image of this version of the daemon, which `deploy/README.md` builds.
    pub(super) fn own() -> Self {
        Self(concat!("localhost/hecate-daemon:", env!("CARGO_PKG_VERSION")).to_owned())
    }

    pub(super) fn parse(text: &str) -> Result<Self, ImageError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before a slash belongs to a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if name.len() > limits::IMAGE_NAME {
            return Err(ImageError::TooLong);
        }
        if !is_image_name(name) || !tag.is_none_or(is_tag) || !digest.is_none_or(is_digest) {
            return Err(ImageError::Malformed);
        }
        if tag.is_none() && digest.is_none() {
            return Err(ImageError::Floating);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_image_name(name: &str) -> bool {
    let is_host = |word: &str| word == "localhost" || word.contains(['.', ':']);
    match name.split_once('/') {
        Some((host, path)) if is_host(host) => is_host_name(host) && path.split('/').all(is_word),
        _ => name.split('/').all(is_word),
    }
}

fn is_host_name(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.split('.').all(is_label) && !port.is_empty() && port.chars().all(|c| c.is_ascii_digit())
}

/// Returns whether a word has lowercase letters and digits, joined by one `.`, one or two `_`, or
/// hyphens.
fn is_word(word: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_joint = |joint: &str| matches!(joint, "" | "." | "_" | "__") || joint.chars().all(|c| c == '-');
    word.starts_with(is_letter) && word.ends_with(is_letter) && word.split(is_letter).all(is_joint)
}

fn is_tag(tag: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=128).contains(&tag.len()) && tag.chars().all(allowed) && !tag.starts_with(['.', '-'])
}

fn is_digest(digest: &str) -> bool {
    let is_hex = |hex: &str| hex.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    match digest.split_once(':') {
        Some(("sha256", hex)) => hex.len() == 64 && is_hex(hex),
        Some(("sha512", hex)) => hex.len() == 128 && is_hex(hex),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_references_with_a_tag_or_a_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for good in ["a:1", "localhost/hecate-daemon:0.1.0", "localhost:5000/a/b_c/d--e:v1.2_3-x", "R.Example/a__b.c:T"]
        {
            assert_eq!(Image::parse(good).map(|image| image.to_string()), Ok(good.to_owned()));
        }
        for good in [format!("a@{digest}"), format!("r.example:1/a:1@{digest}")] {
            assert!(Image::parse(&good).is_ok(), "{good}");
        }
        for floating in ["a", "r.example/a", "localhost:5000/a"] {
            assert_eq!(Image::parse(floating), Err(ImageError::Floating), "{floating}");
        }
        let bad = [
            "",
            ":1",
            "a:",
            "A:1",
            "a/:1",
            "/a:1",
            "a//b:1",
            "a b:1",
            "a:1\n",
            "a:1\"",
            "a: 1",
            "a:1 # x",
            "a:.1",
            "-a:1",
            "a-:1",
            "a___b:1",
            "a..b:1",
            "r.example:/a:1",
            "r.example:x/a:1",
            "-r.example/a:1",
            "a@sha256:00",
            "a@md5:00",
            "a:1@",
            "$(x):1",
            "%h:1",
            "\u{e4}:1",
        ];
        for bad in bad {
            assert_eq!(Image::parse(bad), Err(ImageError::Malformed), "{bad:?}");
        }
        assert_eq!(Image::parse(&format!("a:{}", "1".repeat(129))), Err(ImageError::Malformed));
    }

    #[test]
    fn the_name_of_an_image_is_bounded() {
        assert!(Image::parse(&format!("{}:1", "a".repeat(limits::IMAGE_NAME))).is_ok());
        assert_eq!(Image::parse(&format!("{}:1", "a".repeat(limits::IMAGE_NAME + 1))), Err(ImageError::TooLong));
    }
}
