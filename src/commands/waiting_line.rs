//! The line on a terminal that tells what a holder waits for: what is missing, who is in the way, the place in line. It is
//! written over as things change.

use std::io::{self, Write};

use crate::holder::{Lack, Shortfall};
use crate::process::Processes;
use crate::units::ByteSize;

/// To the beginning of the line, and clear it.
const RENEW: &str = "\r\x1b[K";

/// What a terminal shows at least.
const WIDTH: usize = 80;

#[derive(Default)]
pub struct WaitingLine {
    shown: Option<Lack>,
    logged: Option<Lack>,
    processes: Processes,
}

impl WaitingLine {
    /// Shows what is missing, if that has changed.
    pub fn show(&mut self, lack: &Lack) {
        if self.shown.as_ref() != Some(lack) {
            let text = self.text(lack);
            // A line that is broken by the terminal could not be written over.
            let width = terminal_width().unwrap_or(WIDTH);
            let text: String = text.chars().take(width.saturating_sub(1)).collect();
            let _ = io::stderr().write_all(format!("{RENEW}{text}").as_bytes());
            self.shown = Some(lack.clone());
        }
    }

    /// Logs what is missing, if that has changed.
    pub fn log(&mut self, lack: &Lack) {
        if self.logged.as_ref() != Some(lack) {
            tracing::info!("{}", self.text(lack));
            self.logged = Some(lack.clone());
        }
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if self.shown.take().is_some() {
            let _ = io::stderr().write_all(RENEW.as_bytes());
        }
    }

    fn text(&mut self, lack: &Lack) -> String {
        let missing: Vec<String> = lack.shortfalls.iter().map(|shortfall| self.missing(shortfall, lack)).collect();
        let place = match lack.place {
            Some(place) if place > 1 => format!("{} ahead in line", place - 1),
            _ => String::new(),
        };
        let parts: Vec<String> = missing.into_iter().chain([place]).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() { "waiting".to_owned() } else { format!("waiting: {}", parts.join("; ")) }
    }

    /// `GPU 0 lacks 5.0 GB of 8.0 GB (4242 alice python: 12.0 GB)`
    fn missing(&mut self, shortfall: &Shortfall, lack: &Lack) -> String {
        let Shortfall { ordinal, uuid, wanted, missing, .. } = shortfall;
        let mut crowd = lack.crowd.get(uuid).cloned().unwrap_or_default();
        crowd.sort_by_key(|process| std::cmp::Reverse(process.used_bytes));
        let Some(largest) = crowd.first() else { return format!("GPU {ordinal} lacks {missing} of {wanted}") };
        let who = self.processes.look_up(largest.pid);
        let names: String = [who.user, who.program].into_iter().flatten().map(|name| format!(" {name}")).collect();
        let size = largest.used_bytes.map(|bytes| format!(": {}", ByteSize::new(bytes))).unwrap_or_default();
        let more = if crowd.len() > 1 { format!(" and {} more", crowd.len() - 1) } else { String::new() };
        format!("GPU {ordinal} lacks {missing} of {wanted} ({}{names}{size}{more})", largest.pid)
    }
}

fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::gpu::{GpuProcess, GpuUuid};

    #[test]
    fn the_line_tells_what_is_missing_and_who_is_in_the_way() {
        let uuid = GpuUuid([1; 16]);
        let size = |gigabytes: u64| ByteSize::new(gigabytes << 30);
        let shortfall = Shortfall { ordinal: 3, uuid, wanted: size(8), free: size(3), missing: size(5) };
        // Above the largest pid that Linux allows.
        let process =
            |pid: u32, gigabytes| GpuProcess { pid: (1 << 23) + pid, used_bytes: Some(size(gigabytes).bytes()) };
        let crowd = BTreeMap::from([(uuid, vec![process(1, 2), process(2, 12)])]);
        let lack = Lack { shortfalls: vec![shortfall], place: Some(3), crowd };
        assert_eq!(
            WaitingLine::default().text(&lack),
            "waiting: GPU 3 lacks 5.0 GB of 8.0 GB (8388610: 12.0 GB and 1 more); 2 ahead in line"
        );
        let nothing = Lack { shortfalls: Vec::new(), place: Some(1), crowd: BTreeMap::new() };
        assert_eq!(WaitingLine::default().text(&nothing), "waiting");
    }
}
