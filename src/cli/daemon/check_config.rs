//! `--check-config`: shows each setting with its value and source, and all invalid ones. It starts
//! and creates nothing, and never shows the cookie.

use crate::cli::support::exit::Exit;
use crate::cli::support::page::{self, Cell, complain, table};
use crate::config::{Environment, Flags, Places};

/// Prints the settings and the errors.
pub(in crate::cli) fn run(flags: &Flags) -> Exit {
    let environment = Environment::of_process();
    let checked = match Places::find(flags, &environment) {
        Ok(places) => places.check(),
        Err(error) => {
            complain(&error.to_string());
            return Exit::Usage;
        }
    };
    let mut errors: Vec<String> = Vec::new();
    let mut rows = vec![["SETTING", "VALUE", "FROM"].map(Cell::head).to_vec()];
    for row in checked.rows {
        let value = match row.value {
            Ok(value) => Cell::from(value),
            Err(error) => {
                // One mistake can make several settings invalid.
                errors.extend(Some(error.to_string()).filter(|error| !errors.contains(error)));
                Cell::bad("(invalid)")
            }
        };
        let from = if row.from == "default" { Cell::faint(&row.from) } else { Cell::from(row.from) };
        rows.push(vec![Cell::from(row.name), value, from]);
    }
    let printed = page::show(&table(&rows)).exit();
    for warning in &checked.warnings {
        complain(&format!("warning: {warning}"));
    }
    for error in &errors {
        complain(error);
    }
    if errors.is_empty() { printed } else { Exit::Usage }
}
