//! `--check-config`: every setting, its value and where it comes from, and all that is wrong. It starts nothing and makes
//! nothing; the cookie itself is never shown.

use crate::cli::support::exit::Exit;
use crate::cli::support::page::{self, Cell, complain, table};
use crate::config::{Environment, Flags, Places};

/// Prints what holds, or why nothing would start.
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
                // One mistake may be in the way of several settings.
                errors.extend(Some(error.to_string()).filter(|error| !errors.contains(error)));
                Cell::bad("(refused)")
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
