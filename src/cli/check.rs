//! `check`: every problem of a hooks.yaml at once, for people or for programs.
//!
//! Invariant: exit code 2 means errors, 0 means none; warnings alone do not fail.

use std::{io::IsTerminal, path::PathBuf};

use anstream::eprintln;
use clap::Args;

use crate::{
    cli::{
        Exit,
        client::{Trouble, config_of},
        out::println,
        table::{colour, complain},
    },
    hooks::{self, Environment, problem},
};

/// Options of `check`.
#[derive(Args)]
pub(super) struct Options {
    /// The file to check [default: ./hooks.yaml, then /etc/landfall/hooks.yaml]
    file: Option<PathBuf>,
    /// Print the problems as a JSON array
    #[arg(long)]
    json: bool,
    /// Variables for `{env: NAME}`, a line of KEY=value each, besides those of this shell
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

/// `landfall check`.
pub(super) fn check(options: &Options) -> Exit {
    let Some(file) = config_of(options.file.as_deref()) else {
        return complain(&Trouble::new(Exit::Usage, "there is no hooks.yaml here nor in /etc/landfall; name one"));
    };
    let mut environment = Environment::of_process();
    if let Some(env_file) = &options.env_file {
        environment = match environment.with_file(env_file) {
            Ok(environment) => environment,
            Err(err) => return complain(&Trouble::new(Exit::Usage, err.to_string())),
        };
    }
    let (problems, source, good) = match hooks::load(&file, &environment) {
        Ok(loaded) => (loaded.warnings, loaded.text, Some(loaded.hooks.hooks.len())),
        Err(refused) => (refused.problems, refused.text, None),
    };
    if options.json {
        println!("{}", problem::to_json(&problems));
    } else {
        if !problems.is_empty() {
            println!("{}", problem::render(&problems, &source, std::io::stdout().is_terminal()).trim_end());
        }
        match good {
            Some(1) => {
                let green = colour("succeeded");
                eprintln!("{green}{}: 1 hook, no errors{green:#}", file.display());
            }
            Some(count) => {
                let green = colour("succeeded");
                eprintln!("{green}{}: {count} hooks, no errors{green:#}", file.display());
            }
            None => eprintln!("{} has problems and would not be taken", file.display()),
        }
    }
    if good.is_some() { Exit::Ok } else { Exit::Usage }
}
