//! Implements `--check-config`: each setting with its effective value and source, or the error.
//! Creates no file, and does not show the cookie.

use std::fmt::Display;

use super::fields::CookiePlace;
use super::settings::{self, Places, Setting};
use super::{Error, misspelled_variables, unknown_keys};
use crate::log::Format;

/// The result of a check.
#[derive(Debug)]
pub struct Checked {
    /// All settings, in the order of `--help`.
    pub rows: Vec<Row>,
    /// Warnings, which do not prevent a start.
    pub warnings: Vec<String>,
}

/// A checked setting.
#[derive(Debug)]
pub struct Row {
    /// The name of its flag; if it has none, its key in the file.
    pub name: &'static str,
    /// The effective value as text, or why the setting is invalid.
    pub value: Result<String, Error>,
    /// The source: a flag, a variable, a line of the file, or `default`.
    pub from: String,
}

/// A setting, and a function that reads it and returns it as text.
type Shown = (&'static Setting, fn(&Places<'_>) -> Result<String, Error>);

/// All of [`settings::SETTINGS`], in their order.
const ROWS: &[Shown] = &[
    (&settings::CONFIG, |p| Ok(optional(p.file_path()?.map(|path| path.display().to_string())))),
    (&settings::HOME, |p| Ok(p.locations()?.home.root().display().to_string())),
    (&settings::SOCKET_PATH, |p| Ok(p.locations()?.socket.display().to_string())),
    (&settings::NODE_NAME, |p| Ok(p.node()?.0.to_string())),
    (&settings::HOSTNAME, |p| p.hostname()),
    (&settings::COOKIE, |p| {
        Ok(match p.cookie_place()? {
            CookiePlace::Given(_) | CookiePlace::File(_) => "(set, hidden)".to_owned(),
            CookiePlace::ToBeCreated(_) => "(made at the start)".to_owned(),
        })
    }),
    (&settings::CLUSTER_PEERS, |p| Ok(list(p.peers()?))),
    (&settings::CLUSTER_DNS, |p| Ok(optional(p.cluster_dns()?))),
    (&settings::EPMD_NAMES, |p| Ok(list(p.epmd_names()?))),
    (&settings::PG_SCOPES, |p| Ok(list(p.pg_scopes()?))),
    (&settings::LISTEN, |p| Ok(p.listen()?.to_string())),
    (&settings::DIST_PORT, |p| Ok(p.dist_port()?.map_or("(chosen by the system)".to_owned(), |port| port.to_string()))),
    (&settings::EPMD_PORT, |p| Ok(p.epmd_port()?.to_string())),
    (&settings::EPMD_ADDRESS, |p| {
        let addresses = p.epmd_addresses()?;
        Ok(if addresses.is_empty() { "(any address)".to_owned() } else { list(addresses) })
    }),
    (&settings::HIDDEN, |p| Ok(p.hidden()?.to_string())),
    (&settings::INTRODUCE_PEERS, |p| Ok(p.introduce_peers()?.to_string())),
    (&settings::NET_TICKTIME, |p| Ok(p.net_ticktime()?.as_secs().to_string())),
    (&settings::PEER_MEMORY, |p| Ok((p.peer_memory()? >> 20).to_string())),
    (&settings::REGISTRATION_GRACE, |p| Ok(p.registration_grace()?.as_secs().to_string())),
    (&settings::DIR_MODE, |p| Ok(format!("{:04o}", p.dir_mode()?))),
    (&settings::SOCKET_MODE, |p| Ok(format!("{:04o}", p.socket_mode()?))),
    (&settings::GROUP, |p| Ok(optional(p.group()?))),
    (&settings::ALLOWED_UIDS, |p| Ok(list(p.allowed_uids()?))),
    (&settings::LOG, |p| p.log()),
    (&settings::LOG_FORMAT, |p| {
        Ok(match p.log_format()? {
            Format::Text => "text".to_owned(),
            Format::Json => "json".to_owned(),
        })
    }),
];

impl Places<'_> {
    /// Checks every setting, even if others are invalid.
    #[must_use]
    pub fn check(&self) -> Checked {
        let mut warnings = unknown_keys(&self.file);
        warnings.extend(misspelled_variables(self.environment));
        // An error here also appears in the row of its setting.
        warnings.extend(self.unused_data_dir().ok().flatten());
        warnings.extend(self.dns_for_short_name().ok().flatten());
        let row = |(setting, show): &Shown| Row {
            name: setting.flag.or(setting.key).unwrap_or_default(),
            value: show(self),
            from: from(self, setting),
        };
        Checked { rows: ROWS.iter().map(row).collect(), warnings }
    }
}

fn from(places: &Places<'_>, setting: &Setting) -> String {
    if let Ok(Some(given)) = places.get(setting) {
        return given.source().to_string();
    }
    let file = match setting.key == settings::COOKIE.key {
        true => places.cookie_place().ok(),
        false => None,
    };
    match file {
        Some(CookiePlace::File(path) | CookiePlace::ToBeCreated(path)) => path.display().to_string(),
        Some(CookiePlace::Given(_)) | None => "default".to_owned(),
    }
}

fn list<T: Display>(values: Vec<T>) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

fn optional<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
