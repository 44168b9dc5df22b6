//! The flags, made from the table of settings so that each stands once. Values are taken as they are; `config` reads
//! them.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::Flags;
use crate::config::settings::{SETTINGS, Setting};

/// All flags.
#[derive(Debug)]
pub(in crate::cli) struct ServeFlags(pub Flags);

/// Those that say where the socket is.
#[derive(Debug)]
pub(in crate::cli) struct ClientFlags(pub Flags);

impl Args for ServeFlags {
    fn augment_args(command: Command) -> Command {
        command.args(arguments(|_| true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(given(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(given(matches));
        Ok(())
    }
}

impl Args for ClientFlags {
    fn augment_args(command: Command) -> Command {
        command.args(arguments(|setting| setting.for_clients))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ClientFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(given(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(given(matches));
        Ok(())
    }
}

fn arguments(wanted: fn(&Setting) -> bool) -> impl Iterator<Item = Arg> {
    SETTINGS.iter().filter(move |setting| wanted(setting)).filter_map(|setting| {
        let flag = setting.flag?;
        let argument = Arg::new(flag).long(flag).value_name(setting.value).action(ArgAction::Set).help(format!(
            "{} [env: {}]",
            setting.help,
            setting.env.join(", ")
        ));
        Some(match setting.switch {
            true => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
            false => argument,
        })
    })
}

fn given(matches: &ArgMatches) -> Flags {
    let flags = SETTINGS.iter().filter_map(|setting| setting.flag);
    flags
        .filter_map(|flag| {
            // A flag that this command does not have is no error here.
            let value = matches.try_get_one::<String>(flag).ok()??;
            Some((flag, value.clone()))
        })
        .collect()
}
