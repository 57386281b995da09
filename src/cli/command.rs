//! The command line as clap runs it: the types of `cli.rs`, and below them what is derived rather than written down twice.

use clap::builder::Resettable;
use clap::{Arg, CommandFactory, FromArgMatches};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Exit;

/// The finished definition, for parsing, help, man pages and completions alike.
pub fn command() -> clap::Command {
    Cli::command().after_help(exit_codes()).mut_subcommands(|verb| {
        let variables = variables(&verb);
        // The variables stand in one place below the options: beside each of them they would double the help's length.
        let verb = verb.mut_args(|option| option.hide_env(true));
        if variables.is_empty() { verb } else { verb.after_long_help(variables) }
    })
}

/// Reads the command line.
///
/// # Errors
/// It asks for help or the version, or it is wrong.
pub fn read() -> Result<Cli, clap::Error> {
    let mut command = command().mut_subcommands(|verb| verb.mut_args(without_empty_variable));
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// An empty variable says nothing, as with most programs: `GPU_BALLOON_GPU= gpu-balloon hold`.
fn without_empty_variable(option: Arg) -> Arg {
    let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
    if option.get_env().is_some_and(is_empty) { option.env(Resettable::Reset) } else { option }
}

/// The completions for `shell`.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "gpu-balloon", &mut script);
    // Up to clap_complete 4.6.11 the script for bash has two spellings of a program's name with a hyphen in it, and so
    // finds no options of a verb (clap-rs/clap#6421).
    String::from_utf8_lossy(&script).replace("gpu__subcmd__balloon", "gpu__balloon")
}

fn exit_codes() -> String {
    let told = |exits: &[Exit]| {
        exits.iter().map(|&exit| format!("{} {}", exit as u8, exit.meaning())).collect::<Vec<_>>().join(", ")
    };
    format!(
        "Exit codes: {}.\n`run` ends as its command did, with the same code or by the same signal; else {}.",
        told(&Exit::COMMON),
        told(&Exit::OF_RUN)
    )
}

fn variables(verb: &clap::Command) -> String {
    let names: Vec<_> = verb.get_arguments().filter_map(|option| Some(option.get_env()?.to_string_lossy())).collect();
    if names.is_empty() {
        return String::new();
    }
    format!("Environment: {} each stand for the option of its name.", names.join(", "))
}
