//! `status --watch`: looks again and again, on a terminal in place, until a signal or a closed pipe ends it.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::shown;
use super::survey::{Survey, Wanted};
use crate::commands::Failure;
use crate::commands::output::{is_dumb, print};
use crate::exit::Exit;
use crate::signals::{Purpose, Signals};

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// To the upper left corner, without clearing: what is overwritten in place does not flicker.
const HOME: &str = "\x1b[H";
const CLEAR_REST_OF_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows what is wanted every `interval`.
///
/// # Errors
/// As [`Survey::look`]; a balloon that is watched by name and ends is one.
pub fn run(survey: &mut Survey, wanted: &Wanted, interval: Duration, as_json: bool) -> Result<ExitCode, Failure> {
    let signals = Signals::block(Purpose::Hold).map_err(|error| Failure::new(Exit::Failed, error))?;
    let in_place = !as_json && io::stdout().is_terminal() && !is_dumb();
    let _cursor = in_place.then(HiddenCursor::hide);
    let mut next = Instant::now();
    loop {
        let text = shown(&survey.look(wanted)?.snapshot, as_json);
        let text = match (in_place, as_json) {
            (true, _) => screenful(&text, rows()),
            (false, true) => text,
            // So that one can tell where the next one begins.
            (false, false) => text + "\n",
        };
        if !print(&text)? {
            break;
        }
        // An interval without end leaves one look, shown until a signal.
        let due = next.checked_add(interval).map(|due| due.max(Instant::now()));
        if ended_before(&signals, due) {
            break;
        }
        next = due.unwrap_or(next);
    }
    Ok(Exit::Done.into())
}

/// Waits until `due`, which may be never. Says whether a signal came first.
fn ended_before(signals: &Signals, due: Option<Instant>) -> bool {
    loop {
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(signals, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

/// A frame that overwrites the one before, at most as high as the terminal.
fn screenful(text: &str, rows: usize) -> String {
    let lines = text.lines().count();
    let shown = if lines < rows { lines } else { rows.saturating_sub(2) };
    let mut frame = HOME.to_owned();
    for line in text.lines().take(shown) {
        frame += &format!("{line}{CLEAR_REST_OF_LINE}\n");
    }
    if shown < lines {
        frame += &format!("({} more lines){CLEAR_REST_OF_LINE}\n", lines - shown);
    }
    frame + CLEAR_BELOW
}

fn rows() -> usize {
    let rows = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_row);
    if rows == 0 { usize::MAX } else { rows.into() }
}

/// The cursor, out of the way until this is dropped.
struct HiddenCursor;

impl HiddenCursor {
    fn hide() -> Self {
        let _ = print(HIDE_CURSOR);
        Self
    }
}

impl Drop for HiddenCursor {
    fn drop(&mut self) {
        let _ = print(SHOW_CURSOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_no_higher_than_the_terminal() {
        assert_eq!(screenful("a\nb\n", 3), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(screenful("a\nb\nc\nd\n", 4), "\x1b[Ha\x1b[K\nb\x1b[K\n(2 more lines)\x1b[K\n\x1b[J");
        for rows in 0..6 {
            assert!(screenful("a\nb\nc\nd\n", rows).lines().count() <= rows.max(2), "{rows} rows");
        }
    }
}
