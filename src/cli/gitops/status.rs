//! `gitops status`: compares the deployed plugins with the registered ones. It changes nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use super::repository::{Repository, RepositoryError};
use super::templates;
use crate::cli::plugins::list;
use crate::cli::support::client::{self, ClientError};
use crate::cli::support::command::unreadable;
use crate::cli::support::exit::Exit;
use crate::cli::support::page::{self, Cell, complain, counted, fields, table};
use crate::cli::support::refusal;
use crate::config::Locations;
use crate::limits;
use crate::plugin::PluginName;
use crate::wire::{PluginEntry, PluginStatus};

/// One plugin that is deployed, registered, or both.
#[derive(Debug, Default, Serialize)]
struct Row {
    name: String,
    /// Whether the plugin is in the repository.
    deployed: bool,
    image: Option<String>,
    frontend_image: Option<String>,
    /// Whether the plugin is registered; `None` if no daemon answers.
    registered: Option<bool>,
    version: Option<String>,
    status: Option<PluginStatus>,
}

/// The content of the repository.
struct Deployed {
    head: String,
    changes: Vec<String>,
    image: Option<String>,
    rows: BTreeMap<String, Row>,
}

pub(super) async fn run(locations: &Locations, json: bool) -> Exit {
    let repository = match Repository::open_to_read(locations.home.root()) {
        Ok(repository) => repository,
        Err(error) => return refuse(&error.to_string()),
    };
    let mut deployed = match read(&repository) {
        Ok(deployed) => deployed,
        Err(error) => return refuse(&error.to_string()),
    };
    let asked = client::send(&locations.socket, &list::own(), limits::CLIENT_TIME).await;
    let exit = match asked.map(|answer| (answer.status.is_success(), answer)) {
        Ok((true, answer)) => match serde_json::from_slice::<Vec<PluginEntry>>(&answer.body) {
            Ok(registered) => {
                compare(&mut deployed.rows, registered);
                Exit::Done
            }
            Err(error) => return refuse(&unreadable(&error)),
        },
        Ok((false, answer)) => return refuse(&refusal::for_people(answer.status, &answer.body)),
        Err(error @ (ClientError::NoDaemon { .. } | ClientError::Denied(_) | ClientError::Busy(_))) => {
            complain(&error.to_string());
            error.exit()
        }
        Err(error) => return refuse(&error.to_string()),
    };
    match print(&repository, &deployed, json).exit() {
        Exit::Done => exit,
        lost => lost,
    }
}

fn refuse(why: &str) -> Exit {
    complain(why);
    Exit::Refused
}

fn read(repository: &Repository) -> Result<Deployed, RepositoryError> {
    let image = |directory: &str| -> Result<Option<String>, RepositoryError> {
        let path = format!("{directory}/daemonset.yaml");
        Ok(repository.read(&path)?.and_then(|text| templates::image_in(&path, &text)))
    };
    let mut rows = BTreeMap::new();
    for name in repository.directories()?.iter().filter_map(|directory| PluginName::parse(directory).ok()) {
        let frontend_image = image(&templates::frontend_of(&name))?;
        let (name, image) = (name.to_string(), image(name.as_str())?);
        rows.insert(name.clone(), Row { name, deployed: true, image, frontend_image, ..Row::default() });
    }
    let image = image(crate::plugin::PRIMARY)?;
    Ok(Deployed { head: repository.head()?, changes: repository.changes()?, image, rows })
}

fn compare(rows: &mut BTreeMap<String, Row>, registered: Vec<PluginEntry>) {
    for row in rows.values_mut() {
        row.registered = Some(false);
    }
    for plugin in registered {
        let row = rows.entry(plugin.name.clone()).or_default();
        (row.name, row.registered) = (plugin.name, Some(true));
        (row.version, row.status) = (plugin.version, Some(plugin.status));
    }
}

fn print(repository: &Repository, deployed: &Deployed, json: bool) -> page::Printed {
    let path = repository.path().display().to_string();
    if json {
        let whole = serde_json::json!({
            "repository": path,
            "commit": deployed.head,
            "changes": deployed.changes,
            "image": deployed.image,
            "plugins": deployed.rows.values().collect::<Vec<_>>(),
        });
        return page::write(&format!("{whole}\n"));
    }
    let state = match deployed.changes.len() {
        0 => Cell::good("clean"),
        count => Cell::warning(&counted(
            count,
            "file with uncommitted changes, which are not deployed",
            "files with uncommitted changes, which are not deployed",
        )),
    };
    let mut text = table(&fields([
        ("repository", Cell::from(path)),
        ("commit", Cell::from(deployed.head.as_str())),
        ("state", state),
        ("image", Cell::optional(deployed.image.as_deref())),
    ]));
    if !deployed.rows.is_empty() {
        let mut rows = vec![["PLUGIN", "DEPLOYED", "REGISTERED", "IMAGE", "FRONTEND"].map(Cell::head).to_vec()];
        rows.extend(deployed.rows.values().map(|row| {
            let registered = match (row.registered, &row.status) {
                (Some(true), Some(status)) => Cell::state(status),
                (Some(_), _) => Cell::warning("no"),
                (None, _) => Cell::faint("unknown"),
            };
            vec![
                Cell::from(row.name.as_str()),
                if row.deployed { Cell::good("yes") } else { Cell::warning("no") },
                registered,
                Cell::optional(row.image.as_deref()),
                Cell::optional(row.frontend_image.as_deref()),
            ]
        }));
        text.push('\n');
        text.push_str(&table(&rows));
    }
    page::show(&text)
}
