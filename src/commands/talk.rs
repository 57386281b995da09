//! What the holders say to the person at the terminal.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use crate::commands::output::is_dumb;
use crate::commands::waiting_line::WaitingLine;
use crate::holder::{Cause, Holder, HolderError, Shortfall, Watched};
use crate::report::progress::ProgressBars;

/// Says something on standard error. A closed one changes nothing.
pub fn say(what: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(format_args!("gpu-balloon: {what}\n"));
}

/// The same, unless told to be quiet.
pub fn say_unless(quiet: bool, what: fmt::Arguments<'_>) {
    if !quiet {
        say(what);
    }
}

/// What a person who watches sees of an inflation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    Nothing,
    /// A line that tells what it waits for, gone once it need not wait.
    Waiting,
    /// That, and then a bar per GPU.
    Progress,
}

/// Inflates, and shows that on a terminal. Where the log tells of it, the log has the terminal for itself: what is drawn and
/// what is logged would wipe each other out.
///
/// # Errors
/// As [`Holder::inflate`].
pub fn inflate(holder: &mut Holder, show: Show) -> Result<Vec<Shortfall>, HolderError> {
    if show == Show::Nothing || !io::stderr().is_terminal() || is_dumb() {
        return holder.inflate(None);
    }
    let mut bars: Option<ProgressBars> = None;
    let mut waits = WaitingLine::default();
    let is_logged = tracing::enabled!(tracing::Level::INFO);
    let outcome = holder.inflate(Some(&mut |watched: Watched<'_>| match watched {
        Watched::Waiting(lack) if is_logged => waits.log(lack),
        Watched::Inflating(_) if is_logged => {}
        Watched::Waiting(lack) => {
            if let Some(bars) = bars.take() {
                bars.finish();
            }
            waits.show(lack);
        }
        Watched::Inflating(progress) => {
            waits.end();
            if show == Show::Progress {
                let ordinals: Vec<u32> = progress.iter().map(|gpu| gpu.ordinal).collect();
                let bars = bars.get_or_insert_with(|| ProgressBars::new(&ordinals));
                for gpu in progress {
                    bars.set(gpu.ordinal, gpu.held, gpu.target);
                }
            }
        }
    }));
    waits.end();
    if let Some(bars) = bars {
        bars.finish();
    }
    outcome
}

/// Why a balloon was released, in words.
pub fn because(cause: &Cause) -> String {
    match cause {
        Cause::Signal(received) => format!("{} came", signal_name(received.signal)),
        Cause::Timeout => "its time is over".to_owned(),
        Cause::Exited => "the process it was for has ended".to_owned(),
        Cause::JobEnded => "the command has ended".to_owned(),
        Cause::Released => "`gpu-balloon release` asked for it".to_owned(),
        Cause::Lost => "a GPU was lost".to_owned(),
    }
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |name| name.to_string())
}

/// A command line as one text, for others to read.
pub fn command_line(words: impl Iterator<Item = OsString>) -> String {
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// How many bytes of a text others are told: a whole description, escaped for JSON, must fit one message of the wire.
const LONGEST: usize = 4096;

/// The text, cut where it is longer than others are told.
pub fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shortened("a".repeat(LONGEST)), "a".repeat(LONGEST));
        let cut = shortened("\u{20ac}".repeat(LONGEST));
        assert_eq!(cut, "\u{20ac}".repeat(LONGEST / 3) + "...");
    }
}
