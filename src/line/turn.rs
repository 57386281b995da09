//! A holder's way through the line, from joining it to leaving it. Without a usable runtime directory it is alone in it.

use std::io;
use std::time::Instant;

use crate::control::directory::RuntimeDirectory;
use crate::gpu::GpuUuid;
use crate::line::jobs;
use crate::line::policy::{EVERYTHING, Free, Grant, Request, Stage, Ticket, Wish, at_worst, owed, place};
use crate::line::still::Stillness;
use crate::line::verdict::{Verdict, is_someone_taking, verdict};
use crate::line::{Line, Place, Standing};
use crate::units::ByteSize;

/// A holder in the line. Dropping it leaves the line.
pub struct Turn {
    own: Own,
    /// The others when the line was last looked at.
    others: Vec<Standing>,
    /// How often anything had been granted then.
    granted: u64,
    stillness: Stillness,
}

enum Own {
    InLine(Place),
    Alone(Ticket),
}

impl Turn {
    /// Takes the last place in the line.
    pub fn join(directory: Option<&RuntimeDirectory>, name: &str, wish: Wish) -> Self {
        let place = directory.map(|directory| Place::last(&Line::open(directory)?, name, wish.clone()));
        let own = match place {
            Some(Ok(place)) => {
                tracing::info!(number = place.ticket().number, "in line");
                Own::InLine(place)
            }
            nowhere => {
                if let Some(Err(error)) = nowhere {
                    tracing::warn!(%error, "this holder cannot stand in line with others");
                }
                Own::Alone(wish.numbered(0))
            }
        };
        Self { own, others: Vec::new(), granted: 0, stillness: Stillness::default() }
    }

    /// Looks who is in the line.
    pub fn look(&mut self, free: Option<&Free>, now: Instant) {
        let Own::InLine(place) = &mut self.own else { return };
        // Before the tickets, so that what is granted in between is noticed later.
        self.granted = place.granted().unwrap_or(0);
        match place.others() {
            Ok(others) => self.others = others,
            Err(error) => tracing::info!(%error, "the line cannot be read"),
        }
        let tickets = in_order(self.others.iter().map(|other| other.ticket.clone()), self.own.ticket());
        self.stillness.watch(&self.others, &tickets, free, now);
    }

    /// Whether nothing has been granted since the last look.
    pub fn is_current(&self) -> bool {
        match &self.own {
            Own::InLine(place) => place.granted().is_ok_and(|granted| granted == self.granted),
            Own::Alone(_) => true,
        }
    }

    /// Goes, if it may: what is granted is claimed before anyone else can decide. `free` is what was free after the last
    /// [`Self::look`]; if anything was granted since, it does not tell what is left.
    pub fn go(&mut self, free: Option<&Free>, now: Instant) -> Verdict {
        let mut seen = self.tickets(now);
        let number = self.own.ticket().number;
        let mut first = verdict(&seen, number, free);
        if let (Verdict::Go(_), Some(_), Own::InLine(place)) = (&first, free, &self.own) {
            let gpus: Vec<GpuUuid> = place.ticket().request.gpus().collect();
            seen.push(jobs::ticket(place.line().directory(), &gpus));
            first = verdict(&seen, number, free);
        }
        let Verdict::Go(grant) = first else { return first };
        let (stillness, known) = (&self.stillness, self.granted);
        let outcome = match &mut self.own {
            Own::Alone(ticket) => {
                claim(ticket, &grant);
                return Verdict::Go(grant);
            }
            Own::InLine(place) => place.amend_alone(|own, others, granted| {
                if free.is_some() && granted != known {
                    return None;
                }
                let later = others.iter().map(|other| stillness.discount(other.ticket.clone(), now));
                match verdict(&at_worst(&seen, &in_order(later, own)), number, free) {
                    Verdict::Go(grant) => Some((grant.clone(), move |ticket: &mut Ticket| claim(ticket, &grant))),
                    _ => None,
                }
            }),
        };
        decided(outcome, grant)
    }

    /// Goes past those who take but stand still, if nobody else takes. What they were granted stays theirs.
    pub fn pass_still(&mut self, now: Instant) -> Verdict {
        // Whoever was granted something since the last look moves, and is not known to take yet.
        if !self.is_current() {
            return Verdict::Wait;
        }
        let own = self.own.ticket();
        let moving = self.others.iter().map(|other| {
            let mut ticket = self.stillness.discount(other.ticket.clone(), now);
            if self.stillness.is_still(&ticket, now) {
                ticket.claims.clear();
            }
            ticket
        });
        if is_someone_taking(&in_order(moving, own), own) {
            return Verdict::Wait;
        }
        if matches!(own.request, Request::Any(_)) {
            return Verdict::NoFit;
        }
        let (grant, known) = (own.reserved(), self.granted);
        let outcome = match &mut self.own {
            Own::Alone(ticket) => {
                claim(ticket, &grant);
                return Verdict::Go(grant);
            }
            Own::InLine(place) => place.amend_alone(|_, _, granted| {
                (granted == known).then(|| (grant.clone(), |ticket: &mut Ticket| claim(ticket, &grant)))
            }),
        };
        decided(outcome, grant)
    }

    /// The GPUs on which this holder, which grows, has to give back what it holds.
    pub fn owed(&self, held: &Free, free: &Free, now: Instant) -> Vec<GpuUuid> {
        owed(&self.tickets(now), self.own.ticket().number, held, free)
    }

    /// What others were granted on a GPU and have not allocated yet, as far as that is known.
    pub fn claimed_by_others(&self, gpu: GpuUuid) -> ByteSize {
        let claims = self.others.iter().map(|other| other.ticket.claim_on(gpu)).filter(|claim| *claim != EVERYTHING);
        claims.sum()
    }

    /// Writes down what is still to be allocated of what was granted.
    pub fn claims(&mut self, claims: Grant) {
        self.change(|ticket| ticket.claims = claims);
    }

    /// Stands in line again, at its place.
    pub fn wait_for(&mut self, wish: Wish) {
        self.change(|ticket| *ticket = wish.numbered(ticket.number));
    }

    /// The place in line, 1 for the first.
    pub fn place(&self) -> Option<u32> {
        let own = self.own.ticket();
        place(&in_order(self.others.iter().map(|other| other.ticket.clone()), own), own.number)
    }

    fn tickets(&self, now: Instant) -> Vec<Ticket> {
        let others = self.others.iter().map(|other| self.stillness.discount(other.ticket.clone(), now));
        in_order(others, self.own.ticket())
    }

    fn change(&mut self, change: impl FnOnce(&mut Ticket)) {
        let outcome: io::Result<()> = match &mut self.own {
            Own::InLine(place) => place.amend(change),
            Own::Alone(ticket) => {
                change(ticket);
                Ok(())
            }
        };
        if let Err(error) = outcome {
            tracing::info!(%error, "the ticket cannot be changed");
        }
    }
}

/// What a decision came to; a claim that cannot be written down keeps nobody from going.
fn decided(outcome: io::Result<Option<Grant>>, intended: Grant) -> Verdict {
    match outcome {
        Ok(Some(grant)) => Verdict::Go(grant),
        Ok(None) => Verdict::Wait,
        Err(error) => {
            tracing::info!(%error, "the claim cannot be written down");
            Verdict::Go(intended)
        }
    }
}

impl Own {
    fn ticket(&self) -> &Ticket {
        match self {
            Self::InLine(place) => place.ticket(),
            Self::Alone(ticket) => ticket,
        }
    }
}

fn in_order(others: impl Iterator<Item = Ticket>, own: &Ticket) -> Vec<Ticket> {
    let mut tickets: Vec<Ticket> = others.chain([own.clone()]).collect();
    tickets.sort_by_key(|ticket| ticket.number);
    tickets
}

/// Turns a grant into claims.
fn claim(ticket: &mut Ticket, grant: &Grant) {
    match ticket.stage {
        Stage::Growing => ticket.request = ticket.request.without(grant),
        _ => ticket.stage = Stage::Admitted,
    }
    ticket.claims.clone_from(grant);
}
