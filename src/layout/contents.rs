//! Lists what plugins have created in their namespaces: connector sockets and additional
//! directories. Read-only.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::create::Layout;
use super::entries::entries;
use super::error::LayoutError;
use super::paths::{CONNECTORS, SUBDIRECTORIES};
use crate::layout::socket::dead::probe;
use crate::layout::socket::stale::SocketState;
use crate::limits;
use crate::plugin::PluginName;

/// The contents of a namespace that the plugin has created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The sockets `connectors/{id}.sock`, sorted by id.
    pub connectors: Vec<Connector>,
    /// The names of directories other than the five standard ones, such as `hecate-agents`, sorted.
    pub extra_directories: Vec<String>,
}

/// A connector socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// The file name without `.sock`.
    pub id: String,
    /// The path of the socket.
    pub socket: PathBuf,
    /// Whether a process listens on it.
    pub answers: bool,
}

impl Layout {
    /// Lists the contents of a namespace, at most [`limits::CONTENTS`] of each kind. A missing
    /// directory counts as empty.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn contents(&self, name: &PluginName) -> Result<Contents, LayoutError> {
        let base = self.home().namespace(name).base().to_owned();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |errno: Errno| LayoutError::Io { doing: "list", path, source: errno.into() }
        };
        let mut contents = Contents::default();
        if let Some(dir) = found(self.namespace(name))? {
            let names = names(&dir, FileType::Directory, |name| !is_standard(name)).map_err(failed(&base))?;
            contents.extra_directories = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        }
        if let Some(dir) = found(self.connectors(name))? {
            let path = base.join(CONNECTORS);
            let names = names(&dir, FileType::Socket, |name| id(name).is_some()).map_err(failed(&path))?;
            let connector = |name: &OsString| Connector {
                id: id(name).unwrap_or_default(),
                socket: path.join(name),
                answers: probe(&dir, name).0 == SocketState::Alive,
            };
            contents.connectors = names.iter().map(connector).collect();
        }
        Ok(contents)
    }
}

fn found(opened: Result<OwnedFd, LayoutError>) -> Result<Option<OwnedFd>, LayoutError> {
    match opened {
        Ok(dir) => Ok(Some(dir)),
        Err(LayoutError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_standard(name: &OsStr) -> bool {
    SUBDIRECTORIES.iter().any(|standard| name == *standard)
}

fn id(name: &OsStr) -> Option<String> {
    name.to_str()?.strip_suffix(".sock").filter(|id| !id.is_empty()).map(str::to_owned)
}

/// Returns the sorted names of the entries of one kind that satisfy a condition.
fn names(dir: &OwnedFd, kind: FileType, is_wanted: impl Fn(&OsStr) -> bool) -> rustix::io::Result<Vec<OsString>> {
    let found = entries(dir, limits::CONTENTS, |name, of| of == kind && is_wanted(name))?;
    let mut names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::super::{Home, Modes};
    use super::*;
    use crate::plugin::sample;

    fn scene() -> (tempfile::TempDir, Layout, PluginName) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let home = Home::new(dir.path().to_owned()).expect("absolute");
        let layout = Layout::open(home, Modes::default()).expect("opened");
        (dir, layout, sample::name("hecate-marthad"))
    }

    #[test]
    fn connectors_and_directories_of_its_own_are_found() {
        let (_dir, layout, name) = scene();
        assert_eq!(layout.contents(&name).expect("looked"), Contents::default(), "there is no namespace");
        let namespace = layout.ensure(&name, None).expect("made");
        assert_eq!(layout.contents(&name).expect("looked"), Contents::default());

        let (base, connectors) = (namespace.base(), namespace.connectors());
        for extra in ["hecate-agents", "config"] {
            std::fs::create_dir(base.join(extra)).expect("made");
        }
        std::fs::write(base.join("notes"), "").expect("written");
        symlink("hecate-agents", base.join("linked")).expect("linked");
        let _mail = UnixListener::bind(connectors.join("mail.sock")).expect("bound");
        drop(UnixListener::bind(connectors.join("chat.sock")).expect("bound"));
        std::fs::write(connectors.join("plain.sock"), "").expect("written");
        std::fs::write(connectors.join("mail.log"), "").expect("written");
        symlink("mail.sock", connectors.join("linked.sock")).expect("linked");
        let connector =
            |id: &str, answers| Connector { id: id.into(), socket: connectors.join(format!("{id}.sock")), answers };
        let expected = Contents {
            connectors: vec![connector("chat", false), connector("mail", true)],
            extra_directories: vec!["config".into(), "hecate-agents".into()],
        };
        assert_eq!(layout.contents(&name).expect("looked"), expected);
    }

    #[test]
    fn what_is_listed_is_bounded() {
        let (_dir, layout, name) = scene();
        let namespace = layout.ensure(&name, None).expect("made");
        for number in 0..=limits::CONTENTS {
            std::fs::create_dir(namespace.base().join(format!("x{number}"))).expect("made");
        }
        assert_eq!(layout.contents(&name).expect("looked").extra_directories.len(), limits::CONTENTS);
    }
}
