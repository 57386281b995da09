//! Standard output: what it can show, and writing to it.

use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::commands::Failure;
use crate::exit::Exit;
use crate::report::{Glyphs, Look};

/// The width of a terminal that does not tell its own.
const COLUMNS: u16 = 80;

/// What standard output can show.
pub fn look() -> Look {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let columns = || rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col);
    let columns = is_terminal.then(columns).map(|columns| if columns == 0 { COLUMNS } else { columns });
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    Look {
        columns: columns.map(usize::from),
        glyphs: Glyphs::from_environment(),
        colour: is_terminal && !is_dumb() && !set("NO_COLOR"),
    }
}

/// Whether the terminal shows text and nothing else: no colours, and nothing is written over.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb")
}

/// Writes to standard output. Says whether somebody still reads.
pub fn print(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Exit::Failed, error).context("cannot write to standard output")),
    }
}
