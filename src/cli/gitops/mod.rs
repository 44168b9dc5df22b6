//! `gitops`: manages the Git repository `HOME/gitops`, which Flux or Quadlet deploys on this host.
//! Only `status` needs a daemon.
//!
//! Each change is one commit, and keeps what people have committed. `add` also creates the plugin's
//! directories, because a kubelet or podman mounts only existing ones. No command touches the data
//! of a plugin.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

mod image;
mod repository;
mod status;
mod templates;

use crate::cli::help;
use crate::cli::support::command::Common;
use crate::cli::support::exit::Exit;
use crate::cli::support::page::{self, Cell, complain, fields, table};
use crate::cli::support::suggest;
use crate::config::{Environment, Flags, Locations, Places};
use crate::layout::{Home, Layout, LayoutError, Modes, Owner};
use crate::plugin::{NameError, PluginName};
use image::Image;
use repository::{Repository, RepositoryError};
use templates::{Plugin, Values};

/// The commands of `gitops`.
#[derive(Debug, Subcommand)]
pub(super) enum Gitops {
    /// Create the repository with the manifests of the daemon, or add missing ones
    #[command(after_long_help = help::GITOPS_INIT)]
    Init {
        /// Image of the daemon, with a tag or a digest
        #[arg(long, value_name = "IMAGE", value_parser = Image::parse)]
        image: Option<Image>,
        #[command(flatten)]
        common: Common,
    },
    /// Deploy a plugin, with or without its frontend
    #[command(after_long_help = help::GITOPS_ADD)]
    Add(Add),
    /// Stop deploying a plugin and keep its data
    #[command(after_long_help = help::GITOPS_REMOVE)]
    Remove {
        /// Name of the plugin, such as hecate-traderd
        #[arg(value_parser = plugin_name)]
        name: PluginName,
        #[command(flatten)]
        common: Common,
    },
    /// Compare the deployed plugins with the registered ones
    #[command(after_long_help = help::GITOPS_STATUS)]
    Status {
        #[command(flatten)]
        common: Common,
    },
}

/// The arguments of `add`.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// Name of the plugin, such as hecate-traderd
    #[arg(value_parser = plugin_name)]
    name: PluginName,
    /// Image of the plugin, with a tag or a digest
    #[arg(long, value_name = "IMAGE", value_parser = Image::parse)]
    image: Image,
    /// Image of the plugin's frontend
    #[arg(long, value_name = "IMAGE", value_parser = Image::parse)]
    frontend_image: Option<Image>,
    /// User of the plugin on k3s [default: unchanged, or your uid]
    #[arg(long, value_name = "UID", value_parser = user_number)]
    uid: Option<u32>,
    #[command(flatten)]
    common: Common,
}

/// Parses the number of a user who is not root.
fn user_number(text: &str) -> Result<u32, &'static str> {
    match text.parse() {
        Ok(0) => Err("a plugin cannot run as root; give the number of another user"),
        Ok(uid) => Ok(uid),
        Err(_) => Err("not the number of a user; `id -u NAME` prints it"),
    }
}

fn plugin_name(text: &str) -> Result<PluginName, NameError> {
    PluginName::parse(text)
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Path(#[from] templates::PathError),
    #[error(transparent)]
    SocketPath(#[from] crate::layout::SocketPathTooLong),
    #[error(transparent)]
    Config(#[from] crate::config::Error),
    #[error("{path}: {source}")]
    Line { path: String, source: templates::LineError },
    #[error("root has no default user for plugins; set one with --uid")]
    NoUser,
}

/// The result of a command.
struct Change {
    repository: PathBuf,
    commit: Option<String>,
    message: String,
    /// Further advice for the user.
    notes: Vec<String>,
}

impl Gitops {
    pub(super) async fn run(self) -> Exit {
        let common = match &self {
            Self::Init { common, .. } | Self::Remove { common, .. } | Self::Status { common } => common,
            Self::Add(add) => &add.common,
        };
        let json = common.json;
        let locations = match locations(&common.place.0) {
            Ok(locations) => locations,
            Err(error) => {
                complain(&error.to_string());
                return Exit::Usage;
            }
        };
        let changed = match self {
            Self::Status { .. } => return status::run(&locations, json).await,
            Self::Init { image, .. } => init(&locations.home, image),
            Self::Add(add) => self::add(&locations.home, add),
            Self::Remove { name, .. } => remove(&locations.home, &name),
        };
        match changed {
            Ok(change) => change.print(json),
            Err(refusal) => {
                complain(&refusal.to_string());
                Exit::Refused
            }
        }
    }
}

impl Change {
    fn print(self, json: bool) -> Exit {
        let repository = self.repository.display().to_string();
        if json {
            let whole = json!({
                "ok": true,
                "repository": repository,
                "commit": self.commit,
                "message": self.commit.as_ref().map(|_| &self.message),
                "notes": self.notes,
            });
            return page::write(&format!("{whole}\n")).exit();
        }
        let commit = match self.commit {
            Some(id) => Cell::from(format!("{id} {}", self.message)),
            None => Cell::faint("no changes"),
        };
        let mut rows = fields([("repository", Cell::from(repository)), ("commit", commit)]);
        rows.extend(self.notes.iter().map(|note| vec![Cell::head("note"), Cell::warning(note)]));
        page::show(&table(&rows)).exit()
    }
}

/// The changes to be committed.
struct Draft<'a> {
    repository: &'a Repository,
    /// The paths and texts of files to write.
    files: Vec<(String, String)>,
}

impl Draft<'_> {
    fn read(&self, path: &str) -> Result<Option<String>, RepositoryError> {
        match self.files.iter().find(|(other, _)| other == path) {
            Some((_, text)) => Ok(Some(text.clone())),
            None => self.repository.read(path),
        }
    }

    fn put(&mut self, path: &str, text: String) {
        self.files.retain(|(other, _)| other != path);
        self.files.push((path.to_owned(), text));
    }

    /// Adds the missing files. Returns the paths of the existing ones.
    fn add_missing(&mut self, rendered: Vec<(String, String)>) -> Result<Vec<String>, RepositoryError> {
        let mut existing = Vec::new();
        for (path, text) in rendered {
            match self.repository.read(&path)? {
                None => self.put(&path, text),
                Some(_) => existing.push(path),
            }
        }
        self.repository.ensure_tracked(&existing)?;
        Ok(existing)
    }

    /// Changes a file, if it exists.
    fn change(
        &mut self,
        path: &str,
        by: impl FnOnce(&str) -> Result<String, templates::LineError>,
    ) -> Result<(), Refusal> {
        let Some(text) = self.read(path)? else {
            return Ok(());
        };
        let line = |source| Refusal::Line { path: self.repository.path().join(path).display().to_string(), source };
        let changed = by(&text).map_err(line)?;
        if changed != text {
            self.put(path, changed);
        }
        Ok(())
    }

    /// Replaces the image in the files that name one.
    fn change_images(&mut self, paths: &[String], image: &Image) -> Result<(), Refusal> {
        for path in paths {
            if path.ends_with("/daemonset.yaml") || path.ends_with(".container") {
                self.change(path, |text| templates::with_image(path, text, image))?;
            }
        }
        Ok(())
    }

    /// Writes the files and commits them.
    fn commit(self, message: String, notes: Vec<String>) -> Result<Change, Refusal> {
        let paths: Vec<String> = self.files.iter().map(|(path, _)| path.clone()).collect();
        self.repository.ensure_tracked(&paths)?;
        for (path, text) in &self.files {
            self.repository.write(path, text)?;
        }
        let commit = self.repository.commit(&message, &paths)?;
        Ok(Change { repository: self.repository.path().to_owned(), commit, message, notes })
    }
}

fn init(home: &Home, image: Option<Image>) -> Result<Change, Refusal> {
    let values = values(home, image.clone())?;
    repository::ensure_place(home.root())?;
    // Creates home with its default mode, for the owner only.
    Layout::open(home.clone(), Modes::default())?;
    let repository = Repository::open_or_init(home.root())?;
    let mut draft = Draft { repository: &repository, files: Vec::new() };
    let is_new = repository.read(templates::ROOT)?.is_none();
    let there = draft.add_missing(templates::render(templates::DAEMON, &values))?;
    if let Some(image) = &image {
        draft.change_images(&there, image)?;
    }
    if values.uid == 0 {
        if is_new {
            draft.change(templates::ROOT, |text| Ok(templates::with_component(text, "root")))?;
        }
        if !there.iter().any(|path| path == templates::GIT_SERVER) {
            draft.change(templates::GIT_SERVER, templates::as_root)?;
        }
    }
    // Plugins mount directories of the daemon, perhaps before its first start.
    layout(home, &draft)?.ensure_own()?;
    let message = match (is_new, image) {
        (false, Some(image)) => format!("Run the image {image} as hecate-daemon"),
        (false, None) => "Add what is missing of hecate-daemon".to_owned(),
        (true, _) => "Deploy hecate-daemon".to_owned(),
    };
    draft.commit(message, Vec::new())
}

fn add(home: &Home, add: Add) -> Result<Change, Refusal> {
    home.namespace(&add.name).check_api_sock()?;
    let mut values = values(home, None)?;
    let uid = values.uid;
    let repository = Repository::open(home.root())?;
    // Without --uid, the plugin keeps its user.
    let manifest = repository.read(&format!("{}/daemonset.yaml", add.name))?;
    let present = manifest.as_deref().and_then(templates::user_in);
    let plugin_uid = add.uid.or(present).or(Some(uid).filter(|uid| *uid != 0)).ok_or(Refusal::NoUser)?;
    if uid == 0 {
        // Root shares no group with plugins: each owns its namespace.
        values.gid = plugin_uid;
    }
    let (name, image, frontend_image) = (add.name, add.image, add.frontend_image);
    values.plugin = Some(Plugin {
        name: name.clone(),
        image: image.clone(),
        frontend_image: frontend_image.clone(),
        uid: plugin_uid,
    });
    let mut draft = Draft { repository: &repository, files: Vec::new() };
    let there = draft.add_missing(templates::render(templates::PLUGIN, &values))?;
    draft.change_images(&there, &image)?;
    let mut listed = vec![name.to_string()];
    let mut manifests = vec![format!("{name}/daemonset.yaml")];
    let frontend = templates::frontend_of(&name);
    if let Some(image) = &frontend_image {
        let there = draft.add_missing(templates::render(templates::FRONTEND, &values))?;
        draft.change_images(&there, image)?;
        listed.push(frontend.clone());
    }
    manifests.push(format!("{frontend}/daemonset.yaml"));
    if add.uid.is_some() {
        for path in &manifests {
            draft.change(path, |text| templates::with_user(text, plugin_uid, values.gid))?;
        }
    }
    if plugin_uid != uid && present != Some(plugin_uid) {
        draft.change(templates::SETTINGS, |text| templates::with_allowed(text, plugin_uid))?;
    }
    for directory in &listed {
        draft.change(templates::ROOT, |text| templates::with_listed(text, directory, true))?;
    }
    // Before the commit, so that a reader of the commit finds the directories.
    let layout = layout(home, &draft)?;
    layout.ensure(&name, Some(Owner { uid: plugin_uid, gid: plugin_uid }))?;
    let namespace = home.namespace(&name);
    // The plugin writes to its namespace, and reaches the socket through the daemon's directory.
    let required = [(namespace.base(), 0o7), (&home.own().sockets(), 0o1)];
    let notes = required.into_iter().filter_map(|(path, bits)| closed_to(path, plugin_uid, values.gid, bits)).collect();
    let message =
        if there.is_empty() { format!("Deploy {name}") } else { format!("Set the image of {name} to {image}") };
    draft.commit(message, notes)
}

fn remove(home: &Home, name: &PluginName) -> Result<Change, Refusal> {
    let repository = Repository::open(home.root())?;
    let there = repository.directories()?;
    let mut draft = Draft { repository: &repository, files: Vec::new() };
    let pair = [name.to_string(), templates::frontend_of(name)];
    let mut notes = Vec::new();
    notes.extend(still_allowed(&repository, &there, name)?);
    for directory in &pair {
        draft.change(templates::ROOT, |text| templates::with_listed(text, directory, false))?;
        if there.contains(directory) {
            repository.remove(directory)?;
        }
    }
    if there.contains(&pair[0]) {
        let kept = home.namespace(name);
        notes.push(format!(
            "its data stays in {}; delete it with `hecate-daemon deregister {name}` and `hecate-daemon purge {name}`",
            kept.base().display()
        ));
    } else {
        let deployed = there.iter().filter(|directory| PluginName::parse(directory).is_ok()).map(String::as_str);
        notes.push(format!("'{name}' is not deployed on this host{}", suggest::question(name.as_str(), deployed)));
    }
    draft.commit(format!("Remove {name}"), notes)
}

/// Returns a note if the plugin's user may still call the daemon, and no other plugin runs as that
/// user.
fn still_allowed(
    repository: &Repository,
    directories: &[String],
    name: &PluginName,
) -> Result<Option<String>, RepositoryError> {
    let user_of = |directory: &str| -> Result<Option<u32>, RepositoryError> {
        Ok(repository.read(&format!("{directory}/daemonset.yaml"))?.as_deref().and_then(templates::user_in))
    };
    let Some(uid) = user_of(name.as_str())? else {
        return Ok(None);
    };
    for other in directories.iter().filter_map(|directory| PluginName::parse(directory).ok()) {
        if other != *name && user_of(other.as_str())? == Some(uid) {
            return Ok(None);
        }
    }
    let settings = repository.read(templates::SETTINGS)?.unwrap_or_default();
    Ok(templates::is_allowed(&settings, uid).then(|| {
        format!(
            "uid {uid} may still call the daemon; if no other program needs that, remove it from HECATE_ALLOWED_UIDS in {}",
            templates::SETTINGS
        )
    }))
}

fn locations(flags: &Flags) -> Result<Locations, crate::config::Error> {
    let environment = Environment::of_process();
    let locations = Places::find(flags, &environment)?.locations()?;
    // The deployed daemon has only HECATE_HOME, so its namespace is the default one.
    Ok(Locations { home: Home::new(locations.home.root().to_owned())?, ..locations })
}

/// Returns the values for this user and home.
fn values(home: &Home, image: Option<Image>) -> Result<Values, Refusal> {
    let root = home.root().display().to_string();
    let user_home = std::env::var("HOME").unwrap_or_else(|_| root.clone());
    Ok(Values {
        home: templates::PlainPath::parse(&root)?,
        user_home: templates::PlainPath::parse(&user_home)?,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        image: image.unwrap_or_else(Image::own),
        plugin: None,
    })
}

/// Opens the home directory with the directory mode and group that the deployed daemon uses.
fn layout(home: &Home, draft: &Draft<'_>) -> Result<Layout, Refusal> {
    let mut environment = Environment::default();
    let files: &[&str] = match rustix::process::geteuid().is_root() {
        true => &[templates::SETTINGS, templates::ROOT_SETTINGS],
        false => &[templates::SETTINGS],
    };
    for path in files {
        let text = draft.read(path)?.unwrap_or_default();
        let settings = templates::settings(&text).map(|(key, value)| (key.to_owned(), value.into()));
        environment.variables.extend(settings);
    }
    let flags = Flags::new();
    let places = Places::find(&flags, &environment)?;
    let modes = Modes { dir: places.dir_mode()?, group: places.group()? };
    Ok(Layout::open(home.clone(), modes)?)
}

/// Returns a note if an older directory denies a user access. `needed` are the permission bits, as
/// for others.
fn closed_to(path: &Path, uid: u32, gid: u32, needed: u32) -> Option<String> {
    let metadata = path.metadata().ok()?;
    let (mode, owner, group) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    let bits = match () {
        () if owner == uid => mode >> 6,
        () if group == gid => mode >> 3,
        () => mode,
    };
    if bits & needed == needed {
        return None;
    }
    let path = path.display();
    let advice = match rustix::process::geteuid().is_root() && needed & 0o2 != 0 {
        true => format!("chown -R {uid}:{gid} {path}"),
        false if needed & 0o2 != 0 => format!("chgrp -R {gid} {path} && find {path} -type d -exec chmod 770 {{}} +"),
        false => format!("chgrp {gid} {path} && chmod g+x {path}"),
    };
    Some(format!(
        "{path} (uid {owner}, gid {group}, mode {mode:04o}) denies uid {uid} access; allow it with `{advice}`"
    ))
}
