//! The flags of the settings, made from the table in `config::settings`. They keep values as text;
//! `config` parses them.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::Flags;
use crate::config::settings::{SETTINGS, Setting};

/// The flags of all settings.
#[derive(Debug)]
pub(in crate::cli) struct ServeFlags(pub Flags);

/// The flags of the settings that locate the socket.
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
        let details = if setting.details.is_empty() { String::new() } else { format!("{}\n", setting.details) };
        let mut sources = format!("{details}[env: {}]", setting.env.join(", "));
        if let Some(key) = setting.key {
            sources.push_str(&format!(" [file: {key}]"));
        }
        let argument = Arg::new(flag).long(flag).value_name(setting.value).action(ArgAction::Set);
        let argument = argument.help(setting.help).long_help(format!("{}\n{sources}", setting.help));
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
            // Fails if the command does not have the flag.
            let value = matches.try_get_one::<String>(flag).ok()??;
            Some((flag, value.clone()))
        })
        .collect()
}
