//! Whether a signal that reached us has reached CMD as well.

use super::witness::Told;
use super::{Received, SignalSet};

/// Who else got a signal that we got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This process alone.
    Us,
    /// Our whole process group, CMD included: from the terminal, or by `kill -- -PGID`.
    Group,
}

impl Reach {
    /// From what the witness was told in the same reading, out of which it takes what it has used.
    ///
    /// Real-time signals queue, so they are counted one by one. Of the others only one can wait at a time: what came twice
    /// within one reading counts once, as it would have for any receiver.
    ///
    /// A stop signal takes back a SIGCONT that waits, and SIGCONT takes back a stop signal (signal(7)): what the witness lacks
    /// then may have been the group's, and has lost its meaning.
    pub fn of(one: &Received, told: &mut Vec<Told>) -> Self {
        let Some(at) = told.iter().position(|other| other.is_same_as(one)) else {
            let is_taken_back = told.iter().any(|other| take_each_other_back(one.signal, other.signal));
            return if is_taken_back { Self::Group } else { Self::Us };
        };
        if one.signal >= libc::SIGRTMIN() {
            told.remove(at);
        }
        Self::Group
    }
}

fn take_each_other_back(one: i32, other: i32) -> bool {
    let stops = SignalSet::stops();
    one == libc::SIGCONT && stops.contains(other) || stops.contains(one) && other == libc::SIGCONT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `kill`, called by process 7, tells of a signal.
    fn received(signal: i32) -> Received {
        Received { signal, code: 0, pid: 7, uid: 0, value: 0, reach: Reach::Us }
    }

    fn told(signal: i32) -> Told {
        Told { signal, code: 0, pid: 7 }
    }

    #[test]
    fn what_the_witness_has_too_is_the_groups() {
        let mut told = vec![told(libc::SIGTERM), Told { pid: 8, ..told(libc::SIGINT) }];
        assert_eq!(Reach::of(&received(libc::SIGTERM), &mut told), Reach::Group);
        assert_eq!(Reach::of(&received(libc::SIGTERM), &mut told), Reach::Group, "the same one, read twice");
        assert_eq!(Reach::of(&received(libc::SIGINT), &mut told), Reach::Us, "of another sender");
    }

    #[test]
    fn real_time_signals_are_counted() {
        let mut told = vec![told(40), told(40)];
        let reaches = [40; 3].map(|signal| Reach::of(&received(signal), &mut told));
        assert_eq!(reaches, [Reach::Group, Reach::Group, Reach::Us]);
    }

    #[test]
    fn what_was_taken_back_is_not_passed_on() {
        for (taken, by) in [(libc::SIGCONT, libc::SIGTSTP), (libc::SIGTTIN, libc::SIGCONT)] {
            assert_eq!(Reach::of(&received(taken), &mut vec![told(by)]), Reach::Group);
            assert_eq!(Reach::of(&received(taken), &mut Vec::new()), Reach::Us);
        }
        assert_eq!(Reach::of(&received(libc::SIGCONT), &mut vec![told(libc::SIGTERM)]), Reach::Us);
    }
}
