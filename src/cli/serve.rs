//! `serve`: starts the daemon and its log.
//!
//! Invariant: a daemon that cannot start says every reason at once, on stderr, and ends with a code that tells which kind.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use anstream::{eprint, eprintln};
use clap::{Args, ValueEnum};
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{
        Exit,
        client::{Trouble, config_of},
        table::complain,
    },
    daemon::{self, DaemonError},
    hooks::{Environment, problem},
    process::hidden,
    web::listeners::HandedOver,
};

/// Options of `serve`.
#[derive(Args)]
pub(super) struct Options {
    /// hooks.yaml [default: ./hooks.yaml, then /etc/landfall/hooks.yaml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Variables for `{env: NAME}`, a line of KEY=value each, besides those of this process; read once, at the start
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// How the log is written [default: human on a terminal, else json]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// What is logged: a level, or tracing directives
    #[arg(long, env = "LANDFALL_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Human,
    /// For programs: an object a line.
    Json,
}

/// `landfall serve`.
pub(super) fn serve(options: Options) -> Exit {
    let Some(file) = config_of(options.config.as_deref()) else {
        return complain(&Trouble::new(
            Exit::Usage,
            "there is no hooks.yaml here nor in /etc/landfall; name one with --config",
        ));
    };
    // Nothing has started a thread yet.
    let emptied = hidden::empty_environment_block();
    if let Err(trouble) = start_log(&options) {
        return complain(&trouble);
    }
    let (handed_over, mut environment) = HandedOver::take(Environment::of_process());
    if let Some(env_file) = &options.env_file {
        environment = match environment.with_file(env_file) {
            Ok(environment) => environment,
            Err(err) => return complain(&Trouble::new(Exit::Usage, err.to_string())),
        };
    }
    if let Err(err) = emptied {
        warn!("cannot take the secrets out of what /proc shows of this process to root: {err}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => return complain(&Trouble::new(Exit::Failed, format!("cannot start: {err}"))),
    };
    let ended = runtime.block_on(daemon::serve(&file, environment, handed_over));
    // What may still wait for a name server or a disk must not hold up the end.
    runtime.shutdown_background();
    match ended {
        Ok(()) => Exit::Ok,
        Err(DaemonError::Refused(refused)) => {
            eprint!("{}", problem::render(&refused.problems, &refused.text, io::stderr().is_terminal()));
            eprintln!("{} has problems: nothing was started; `landfall check` shows them too", file.display());
            Exit::Usage
        }
        Err(err) => complain(&Trouble::new(Exit::Failed, err.to_string())),
    }
}

fn start_log(options: &Options) -> Result<(), Trouble> {
    let filter = EnvFilter::try_new(&options.log)
        .map_err(|err| Trouble::new(Exit::Usage, format!("`{}` is not a log filter: {err}", options.log)))?;
    let is_terminal = io::stderr().is_terminal();
    let format = options.log_format.unwrap_or(if is_terminal { LogFormat::Human } else { LogFormat::Json });
    let is_coloured = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    match format {
        LogFormat::Human => log.with_ansi(is_coloured).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
