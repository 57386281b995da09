//! Which descriptors CMD gets: those that our caller gave us and no other, whatever our libraries opened meanwhile.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::signals;

/// `close_range`'s flag that marks instead of closing (close_range(2), Linux 5.11).
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// The descriptors open when the program started. Take note before opening any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// Inclusive ranges of numbers that were not open then, in order.
    gaps: Vec<(u32, u32)>,
}

impl Inherited {
    /// Reads them from `/proc/self/fd`; without `/proc` everything counts as inherited, save what is close-on-exec.
    pub fn now() -> Self {
        let mut gaps: Vec<_> = signals::closed_streams().map(|stream| (stream, stream)).collect();
        if let Some(open) = open_now() {
            gaps.extend(between(3, &open));
        }
        Self { gaps }
    }

    /// Takes over a descriptor that the caller handed to us, so that CMD does not get it; `None` if it was not open then. Of
    /// a standard stream, which is CMD's too, a duplicate is taken.
    pub fn take(&mut self, number: RawFd) -> Option<OwnedFd> {
        let number_then = u32::try_from(number).ok()?;
        if self.gaps.iter().any(|(first, last)| (*first..=*last).contains(&number_then)) {
            return None;
        }
        let stream = match number {
            0 => Some(rustix::stdio::stdin()),
            1 => Some(rustix::stdio::stdout()),
            2 => Some(rustix::stdio::stderr()),
            _ => None,
        };
        if let Some(stream) = stream {
            return rustix::io::fcntl_dupfd_cloexec(stream, 3).ok();
        }
        // SAFETY: asks for the flags of a number that may or may not be open; touches no memory.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
            return None;
        }
        self.gaps.push((number_then, number_then));
        // SAFETY: it was open before we opened anything, so it is the caller's and no owner of ours has it; the line above
        // keeps it from being taken again.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// Closes every descriptor above the standard streams that the caller handed to us, but `kept`: for a holder that is
    /// to hold nothing of its caller's open. Call it before any of them is [taken](Self::take).
    pub fn close_all_but(&mut self, kept: Option<RawFd>) {
        let kept = kept.and_then(|kept| u32::try_from(kept).ok());
        let numbers = open_now().unwrap_or_default().into_iter();
        for number in numbers.filter(|number| Some(*number) != kept) {
            drop(self.take(number.cast_signed()));
        }
    }

    /// In the child, between fork and exec: marks all others to be closed by exec. Async-signal-safe. A kernel without the
    /// call leaves them to their own close-on-exec flags.
    pub(super) fn close_others_on_exec(&self) {
        for (first, last) in &self.gaps {
            // SAFETY: sets a flag on descriptors; closes nothing yet, so no owner loses one.
            unsafe { libc::syscall(libc::SYS_close_range, *first, *last, CLOSE_RANGE_CLOEXEC) };
        }
    }
}

/// The open descriptors above the standard streams, sorted, but the one that reads the directory.
fn open_now() -> Option<Vec<u32>> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").ok()? {
        let entry = entry.ok()?;
        let number = entry.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        let is_listing = target.starts_with("/proc") && target.ends_with(format!("{}/fd", std::process::id()));
        if number > 2 && !is_listing {
            open.push(number);
        }
    }
    open.sort_unstable();
    Some(open)
}

/// The ranges from `first` on that `open` leaves out.
fn between(mut first: u32, open: &[u32]) -> Vec<(u32, u32)> {
    let mut gaps = Vec::new();
    for number in open {
        if first < *number {
            gaps.push((first, number - 1));
        }
        first = number + 1;
    }
    gaps.push((first, u32::MAX));
    gaps
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn gaps_are_what_is_not_open() {
        assert_eq!(between(3, &[]), [(3, u32::MAX)]);
        assert_eq!(between(3, &[3, 4]), [(5, u32::MAX)]);
        assert_eq!(between(3, &[5, 63]), [(3, 4), (6, 62), (64, u32::MAX)]);
    }
}
