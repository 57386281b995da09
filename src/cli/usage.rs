//! Reading the command line, and refusing it in the same form as every other failure.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::Cli;
use crate::cli::command::{command, read};
use crate::cli::time::duration;
use crate::exit::Exit;

/// The command line as typed.
///
/// # Errors
/// There is nothing to run: the help or version was asked for and has been printed, or the usage was wrong and that has
/// been said. The exit code to leave with.
pub fn parse() -> Result<Cli, ExitCode> {
    read().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has seen enough, such as `head`, is no failure.
            let _ = error.print();
            Exit::Done.into()
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage.into()
        }
        _ => {
            let hint = variable_of(&error).map(|variable| format!("that value comes from {variable}"));
            let text = in_our_form(&error.render().to_string(), hint.or_else(|| stray_of(&error)).as_deref());
            let _ = io::stderr().write_all(text.as_bytes());
            if is_run(std::env::args_os()) { Exit::RunFailed } else { Exit::Usage }.into()
        }
    })
}

/// What whoever typed `word` where it makes no sense may have meant by it.
pub fn stray(word: &OsStr) -> Option<String> {
    stray_in(&std::env::args_os().collect::<Vec<_>>(), word)
}

fn stray_in(line: &[OsString], word: &OsStr) -> Option<String> {
    let at = line.iter().position(|other| other == word)?;
    let (before, after) = (line.get(at.checked_sub(1)?)?, &line[at..]);
    let has_end_of_options = after.iter().any(|other| other == "--");
    let (option, value) = (before.to_string_lossy(), word.to_string_lossy());
    // `--wait 10m` is an option without a value, and a word.
    if wants_equals(&option) && (has_end_of_options || duration(&value).is_ok()) {
        return Some(format!("a value of `{option}` follows a `=`: `{option}={value}`"));
    }
    (is_run(line.iter().cloned()) && has_end_of_options)
        .then(|| format!("`{value}` was taken for the command, which may begin behind the `--`"))
}

/// Whether this is an option whose value, if any, follows a `=`.
fn wants_equals(option: &str) -> bool {
    command()
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter(|known| known.is_require_equals_set())
        .any(|known| {
            let is_long = known.get_long().is_some_and(|long| option.strip_prefix("--") == Some(long));
            is_long || known.get_short().is_some_and(|short| option == format!("-{short}"))
        })
}

fn stray_of(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if error.kind() == ErrorKind::UnknownArgument => stray(OsStr::new(word)),
        _ => None,
    }
}

/// The variable that the refused value of an option stands in, which whoever typed something else may not think of.
fn variable_of(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (option, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let option = option.strip_prefix("--")?.split([' ', '[']).next()?;
    let variable = format!("GPU_BALLOON_{}", option.replace('-', "_").to_uppercase());
    std::env::var(&variable).is_ok_and(|set| set == value).then_some(variable)
}

/// `error: what` and the paragraphs below it, as `gpu-balloon: what` and hints, of which `hint` is the first.
fn in_our_form(rendered: &str, hint: Option<&str>) -> String {
    let mut text = String::new();
    for line in rendered.lines().filter(|line| !line.trim().is_empty()) {
        let line = line.trim_start();
        let (label, rest) = match line.split_once(": ") {
            Some(("error", rest)) => ("gpu-balloon: ", rest),
            Some(("tip", rest)) => ("hint: ", rest),
            Some(("Usage", rest)) => ("usage: ", rest),
            _ if line.starts_with("For more information") => ("hint: ", "`--help` says more"),
            _ => ("  ", line),
        };
        text.push_str(label);
        text.push_str(rest);
        text.push('\n');
        if label == "gpu-balloon: "
            && let Some(hint) = hint
        {
            let _ = writeln!(text, "hint: {hint}");
        }
    }
    text
}

/// Whether the verb is `run`, whose small exit codes belong to the command it wraps.
fn is_run(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.skip(1).find(|argument| !argument.as_encoded_bytes().starts_with(b"-")).is_some_and(|verb| verb == "run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_takes_our_form() {
        let rendered = "error: unexpected argument '--foo' found\n\n  tip: to pass it, use '-- --foo'\n\n\
                        Usage: gpu-balloon hold [OPTIONS]\n\nFor more information, try '--help'.\n";
        assert_eq!(
            in_our_form(rendered, Some("first")),
            "gpu-balloon: unexpected argument '--foo' found\nhint: first\nhint: to pass it, use '-- --foo'\n\
             usage: gpu-balloon hold [OPTIONS]\nhint: `--help` says more\n"
        );
    }

    #[test]
    fn a_word_in_the_wrong_place_is_told_its_right_one() {
        let stray = |line: &str, word: &str| {
            let line: Vec<_> = ["gpu-balloon"].into_iter().chain(line.split(' ')).map(OsString::from).collect();
            stray_in(&line, OsStr::new(word))
        };
        for (line, word, hint) in [
            ("run --wait 10m -- true", "10m", "a value of `--wait` follows a `=`: `--wait=10m`"),
            ("run -w 10m python", "10m", "a value of `-w` follows a `=`: `-w=10m`"),
            ("run --summary out -- true", "out", "a value of `--summary` follows a `=`: `--summary=out`"),
            ("hold --wait 10", "10", "a value of `--wait` follows a `=`: `--wait=10`"),
            ("status --watch 1s", "1s", "a value of `--watch` follows a `=`: `--watch=1s`"),
            ("run --reserve 2 GB -- true", "GB", "`GB` was taken for the command, which may begin behind the `--`"),
        ] {
            assert_eq!(stray(line, word).as_deref(), Some(hint), "{line}");
        }
        for (line, word) in [("run --wait pyhton x", "pyhton"), ("run -- pyhton", "pyhton"), ("status x", "x")] {
            assert_eq!(stray(line, word), None, "{line}");
        }
    }

    #[test]
    fn the_verb_is_the_first_word_that_is_no_option() {
        let is_run = |line: &str| is_run(line.split(' ').map(OsString::from));
        assert!(is_run("gpu-balloon run --reserve 0 -- true"));
        assert!(is_run("gpu-balloon -v run"));
        assert!(!is_run("gpu-balloon hold --name run"));
        assert!(!is_run("gpu-balloon"));
    }
}
