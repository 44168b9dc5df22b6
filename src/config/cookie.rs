//! Reads and creates the cookie files of `erl`.
//!
//! The location, permissions, content and creation of the files follow `auth.erl` of OTP's kernel.
//! Nothing here logs, and no error contains a part of a cookie.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use beam::cookie::{Cookie, CookieTextError};

/// The name of the file, in the home directory or in `erlang/` of the configuration directory.
const FILE: &str = ".erlang.cookie";

/// Why a cookie file could not be read or created.
#[derive(Debug, thiserror::Error)]
pub enum CookieFileError {
    /// A system call failed.
    #[error("cookie file {}: cannot {action}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The verb for the failed operation.
        action: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// The path is a directory, a device or another special file.
    #[error("cookie file {} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Group or others have access.
    #[error("cookie file {} has mode {mode:04o}, but only its owner may have access: run `chmod 400` on it", path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// The mode of the file.
        mode: u32,
    },
    /// The content is not a valid cookie.
    #[error("cookie file {}: {error}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// Why it is invalid.
        error: CookieTextError,
    },
    /// Neither directory is known.
    #[error(
        "no directory for a cookie file, because neither HOME nor XDG_CONFIG_HOME is set: set HECATE_ERLANG_COOKIE"
    )]
    NoDirectory,
}

/// Returns the paths of the cookie files, in order of precedence: `home/.erlang.cookie` and
/// `config/erlang/.erlang.cookie`. `config` is `XDG_CONFIG_HOME` or its default.
pub(super) fn files(home: Option<&Path>, config: Option<&Path>) -> Vec<PathBuf> {
    let in_home = home.map(|home| home.join(FILE));
    let in_config = config.map(|config| config.join("erlang").join(FILE));
    in_home.into_iter().chain(in_config).collect()
}

/// Returns the cookie of the first file that exists, and the path of the file.
///
/// # Errors
/// [`CookieFileError`].
pub(super) fn read_first(files: &[PathBuf]) -> Result<Option<(Cookie, PathBuf)>, CookieFileError> {
    for path in files {
        if let Some(cookie) = read(path)? {
            return Ok(Some((cookie, path.clone())));
        }
    }
    Ok(None)
}

/// Creates the first of the files with a cookie from `random`, and returns the cookie.
///
/// # Errors
/// [`CookieFileError`].
pub(super) fn create_first(
    files: &[PathBuf],
    random: impl FnOnce() -> io::Result<[u8; 16]>,
) -> Result<Cookie, CookieFileError> {
    let path = files.first().ok_or(CookieFileError::NoDirectory)?;
    create(path, random)?;
    read(path)?.ok_or_else(|| io_error(path, "read", io::ErrorKind::NotFound.into()))
}

/// Reads a cookie file. Returns `None` if it does not exist.
fn read(path: &Path) -> Result<Option<Cookie>, CookieFileError> {
    // Checked before it is opened, because opening a pipe would wait for a writer.
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path, "check", error)),
    };
    if !metadata.is_file() {
        return Err(CookieFileError::NotAFile(path.to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(CookieFileError::OpenToOthers { path, mode });
    }
    // Enough for the longest cookie with line ends, and to detect a longer one.
    let most = u64::try_from(beam::limits::COOKIE).unwrap_or(u64::MAX).saturating_mul(2);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|error| io_error(path, "read", error))?;
    Cookie::parse(&bytes).map(Some).map_err(|error| CookieFileError::Contents { path: path.to_owned(), error })
}

/// Creates the file atomically, so that a node that starts at the same time never reads a part of a
/// cookie. Keeps a file that another process creates first.
fn create(path: &Path, random: impl FnOnce() -> io::Result<[u8; 16]>) -> Result<(), CookieFileError> {
    let random = random().map_err(|error| io_error(path, "get random bytes for", error))?;
    let cookie: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    // Unique to this process.
    let draft = path.with_extension(format!("cookie.{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&draft)?;
        file.write_all(cookie.as_bytes())?;
        file.sync_all()
    };
    let made = write().and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&draft);
    made.map_err(|error| io_error(path, "create", error))?;
    removed.map_err(|error| io_error(&draft, "remove", error))
}

fn io_error(path: &Path, action: &'static str, error: io::Error) -> CookieFileError {
    CookieFileError::Io { path: path.to_owned(), action, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_or_create(
        home: Option<&Path>,
        config: Option<&Path>,
        random: impl FnOnce() -> io::Result<[u8; 16]>,
    ) -> Result<Cookie, CookieFileError> {
        let files = files(home, config);
        match read_first(&files)? {
            Some((cookie, _)) => Ok(cookie),
            None => create_first(&files, random),
        }
    }

    fn random() -> io::Result<[u8; 16]> {
        Ok(*b"0123456789abcdef")
    }

    fn home_with(contents: &[u8], mode: u32) -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join(FILE);
        fs::write(&path, contents).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        home
    }

    fn entries(directory: &Path) -> usize {
        fs::read_dir(directory).expect("readable").count()
    }

    #[test]
    fn trailing_line_ends_are_not_part_of_the_cookie() {
        let longest = "x".repeat(beam::limits::COOKIE);
        for (bytes, cookie) in [
            (&b"monster"[..], "monster"),
            (b"monster\n", "monster"),
            (b"monster\r\n \n", "monster"),
            // As `erl` reads it: blanks before the first line end belong to it.
            (b"mon ster \n", "mon ster "),
            (longest.as_bytes(), &longest),
        ] {
            assert_eq!(Cookie::parse(bytes).expect("a cookie").secret(), cookie);
        }
        for (bytes, error) in [
            (&b""[..], CookieTextError::Empty),
            (b"\n", CookieTextError::Empty),
            (b"mon\nster", CookieTextError::Character),
            (b"mon\tster", CookieTextError::Character),
            (b"monster\0", CookieTextError::Character),
            ("m\u{f6}nster".as_bytes(), CookieTextError::Character),
            (format!("{longest}x").as_bytes(), CookieTextError::TooLong),
        ] {
            assert_eq!(Cookie::parse(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        for mode in [0o440, 0o404, 0o620, 0o601] {
            let home = home_with(b"monster", mode);
            let error = read_or_create(Some(home.path()), None, random).expect_err("open to others");
            assert!(matches!(error, CookieFileError::OpenToOthers { mode: found, .. } if found == mode), "{error}");
        }
        for mode in [0o400, 0o600, 0o700] {
            let home = home_with(b"monster\n", mode);
            assert_eq!(read_or_create(Some(home.path()), None, random).expect("ours").secret(), "monster");
        }
    }

    #[test]
    fn an_invalid_cookie_file_is_never_replaced() {
        let home = tempfile::tempdir().expect("directory");
        fs::create_dir(home.path().join(FILE)).expect("made");
        let error = read_or_create(Some(home.path()), None, random).expect_err("a directory");
        assert!(matches!(error, CookieFileError::NotAFile(_)), "{error}");

        let home = tempfile::tempdir().expect("directory");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            home.path().join(FILE),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("made");
        let error = read_or_create(Some(home.path()), None, random).expect_err("a pipe, without waiting for a writer");
        assert!(matches!(error, CookieFileError::NotAFile(_)), "{error}");

        for contents in [&b""[..], &[b'x'; 10_000]] {
            let home = home_with(contents, 0o400);
            let error = read_or_create(Some(home.path()), None, random).expect_err("no cookie");
            assert!(matches!(error, CookieFileError::Contents { .. }), "{error}");
            assert_eq!(fs::read(home.path().join(FILE)).expect("there"), contents);
        }
    }

    #[test]
    fn a_cookie_file_is_created_atomically() {
        let home = tempfile::tempdir().expect("directory");
        let cookie = read_or_create(Some(home.path()), None, random).expect("made");
        assert_eq!(cookie.secret(), "30313233343536373839616263646566");
        assert_eq!(entries(home.path()), 1);
        // A file that another process created first is kept.
        create(&home.path().join(FILE), || Ok([0; 16])).expect("no error");
        assert_eq!(read_or_create(Some(home.path()), None, random).expect("there"), cookie);
        assert_eq!(entries(home.path()), 1);
    }

    #[test]
    fn without_a_directory_or_random_bytes_no_file_is_created() {
        assert!(matches!(read_or_create(None, None, random), Err(CookieFileError::NoDirectory)));
        let home = tempfile::tempdir().expect("directory");
        let dry = || Err(io::ErrorKind::Other.into());
        assert!(matches!(read_or_create(Some(home.path()), None, dry), Err(CookieFileError::Io { .. })));
        assert_eq!(entries(home.path()), 0);
    }
}
