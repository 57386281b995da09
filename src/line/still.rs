//! Who stands still in the line though it could go on: stopped by a signal, most likely. It is passed until it moves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::line::Standing;
use crate::line::policy::{EVERYTHING, Free, Stage, Ticket, decide};
use crate::line::verdict::is_someone_taking;

/// Far longer than a holder that lives takes for its next step; one that inflates shows every second that it does.
pub const LONG: Duration = Duration::from_secs(5);

/// What is known of the others' steps.
#[derive(Debug, Default)]
pub struct Stillness {
    others: BTreeMap<u64, Steps>,
}

#[derive(Debug)]
struct Steps {
    revision: u64,
    last: Instant,
    /// Since when it could have taken the next one.
    could_go: Option<Instant>,
}

impl Stillness {
    /// Keeps account: `tickets` are those of all, in order, `others` the ones to watch.
    pub fn watch(&mut self, others: &[Standing], tickets: &[Ticket], free: Option<&Free>, now: Instant) {
        let grants = free.map(|free| decide(tickets, free)).unwrap_or_default();
        self.others.retain(|number, _| others.iter().any(|other| other.ticket.number == *number));
        for Standing { revision, ticket, .. } in others {
            let steps =
                self.others.entry(ticket.number).or_insert(Steps { revision: *revision, last: now, could_go: None });
            if steps.revision != *revision {
                *steps = Steps { revision: *revision, last: now, could_go: None };
            }
            let could_take = ticket.stage == Stage::Now && !is_someone_taking(tickets, ticket);
            let could_go = could_take || grants.contains_key(&ticket.number);
            steps.could_go = if could_go { steps.could_go.or(Some(now)) } else { None };
        }
    }

    /// The ticket as it counts for others: who stands still keeps what it was granted, and no more than that.
    pub fn discount(&self, mut ticket: Ticket, now: Instant) -> Ticket {
        let is_long = |since: Instant| now.saturating_duration_since(since) >= LONG;
        if let Some(steps) = self.others.get(&ticket.number) {
            if steps.could_go.is_some_and(is_long) {
                ticket.stage = Stage::Still;
            }
            if is_long(steps.last) {
                ticket.claims.retain(|(_, size)| *size != EVERYTHING);
            }
        }
        ticket
    }

    /// Whether this one has not moved for long.
    pub fn is_still(&self, ticket: &Ticket, now: Instant) -> bool {
        let last = self.others.get(&ticket.number).map(|steps| steps.last);
        last.is_some_and(|last| now.saturating_duration_since(last) >= LONG)
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::line::policy::Stage::{Now, Waiting};
    use crate::line::policy::tests::{admitted, free, share, these, ticket};

    /// How `other` counts after it was watched at these times without a step, with so much free.
    fn after(other: &Ticket, times: &[Duration], sizes: &[u64]) -> Ticket {
        let (mut stillness, begin) = (Stillness::default(), Instant::now());
        let standing = Standing { name: "other".to_owned(), revision: 3, ticket: other.clone() };
        for time in times {
            let free = free(sizes);
            stillness.watch(from_ref(&standing), from_ref(other), Some(&free), begin + *time);
        }
        stillness.discount(other.clone(), begin + times[times.len() - 1])
    }

    #[test]
    fn one_that_could_go_and_does_not_is_passed() {
        let waits = ticket(1, Waiting, these(&[(0, 5)]));
        assert_eq!(after(&waits, &[Duration::ZERO, LONG], &[4]).stage, Waiting, "it waits for memory");
        assert_eq!(after(&waits, &[Duration::ZERO, LONG / 2], &[5]).stage, Waiting, "not yet");
        assert_eq!(after(&waits, &[Duration::ZERO, LONG], &[5]).stage, Stage::Still);
        assert_eq!(after(&ticket(1, Now, share(0)), &[Duration::ZERO, LONG], &[0]).stage, Stage::Still);
    }

    #[test]
    fn one_that_stops_while_it_takes_keeps_what_it_was_granted() {
        let taking = admitted(1, &[(0, 5), (1, u64::MAX)]);
        assert_eq!(after(&taking, &[Duration::ZERO, LONG / 2], &[9, 9]), taking);
        assert_eq!(after(&taking, &[Duration::ZERO, LONG], &[9, 9]), admitted(1, &[(0, 5)]));
    }

    #[test]
    fn a_step_ends_it() {
        let (mut stillness, begin) = (Stillness::default(), Instant::now());
        let waits = ticket(1, Waiting, these(&[(0, 5)]));
        for (revision, time) in [(0, Duration::ZERO), (1, LONG), (1, LONG + LONG / 2)] {
            let standing = Standing { name: "other".to_owned(), revision, ticket: waits.clone() };
            stillness.watch(&[standing], from_ref(&waits), Some(&free(&[5])), begin + time);
            assert_eq!(stillness.discount(waits.clone(), begin + time), waits);
        }
    }
}
