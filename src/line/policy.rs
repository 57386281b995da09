//! Who may take memory now, among this user's holders. Pure: the tickets and what is free come in as values.
//!
//! **The rules.** Tickets are looked at in their order. On each GPU, what is free is first diminished by every claim: by
//! what was granted and is not allocated yet, whoever has it. Then each ticket in turn
//! - takes all that it asks for, if that is still there on all its GPUs;
//! - else keeps it from those behind: they see what is free without it. So one may pass another only on GPUs that the
//!   other does not want, or where its whole wish stays free beside them. For `any:N` that is every GPU it may choose,
//!   because the one that is left alone could be the one that comes free.
//!
//! A ticket that grows takes what there is piece by piece, under the same rules: whatever comes free on a GPU goes to the
//! first in line there. So what a ticket waits for is not held by one behind it that waits in turn, and no circle can
//! close. Where someone outside the line takes memory that was kept for one ahead, the one behind gives back ([`owed`]).
//! A holder that does not wait passes those who do, since it takes what is free now or fails; it respects claims,
//! and those of its own kind before it.
//!
//! A share is resolved against what is free, which is exact only while nobody else is taking, and may be all of it: it goes
//! alone on its GPU, and passes nobody there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::gpu::GpuUuid;
use crate::units::ByteSize;

/// The claim, or the grant, of a share that is not resolved yet.
pub const EVERYTHING: ByteSize = ByteSize::new(u64::MAX);

/// One holder that is not yet, or not wholly, inflated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its place in the order: lower is earlier.
    pub number: u64,
    pub stage: Stage,
    /// What is still to be granted, the known cost of contexts included.
    pub request: Request,
    /// What each context may cost in addition, where its cost is not known yet.
    pub margin: ByteSize,
    /// What was granted and is not allocated yet, so that the driver still calls it free.
    pub claims: Vec<(GpuUuid, ByteSize)>,
}

/// What a ticket is taken for.
#[derive(Debug, Clone)]
pub struct Wish {
    pub stage: Stage,
    pub request: Request,
    pub margin: ByteSize,
}

impl Wish {
    /// A ticket for it that claims nothing yet.
    pub fn numbered(self, number: u64) -> Ticket {
        let Self { stage, request, margin } = self;
        Ticket { number, stage, request, margin, claims: Vec::new() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// About to take what is free, or to fail.
    Now,
    /// Until everything fits.
    Waiting,
    /// Takes what comes free, piece by piece.
    Growing,
    /// Has been granted everything; its claims say where.
    Admitted,
    /// Could take, and does not: stopped, most likely. Others pass it; a growing one only with all that it lacks, since with
    /// a piece it could come to wait for the other, and the other for it.
    Still,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// On each of these.
    These(Vec<(GpuUuid, Want)>),
    /// On as many of these as each has wants: the first want on the first one chosen, and so on. They stand in the order
    /// of their ordinals.
    Any(Vec<(GpuUuid, Vec<Want>)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    Bytes(ByteSize),
    /// A share of what is free, which makes no sense of less than this.
    Share(ByteSize),
}

/// The GPUs in the order of the request's wants, with what may be taken on each.
pub type Grant = Vec<(GpuUuid, ByteSize)>;

/// What is free on each GPU. On a GPU that is not in here, nothing is granted.
pub type Free = BTreeMap<GpuUuid, ByteSize>;

impl Want {
    fn least(self) -> ByteSize {
        match self {
            Self::Bytes(size) | Self::Share(size) => size,
        }
    }

    /// What is claimed once it is granted, and kept from those behind until then.
    fn claim(self, margin: ByteSize) -> ByteSize {
        match self {
            Self::Bytes(size) => size.saturating_add(margin),
            Self::Share(_) => EVERYTHING,
        }
    }
}

impl Request {
    /// The GPUs on which it may take memory.
    pub fn gpus(&self) -> impl Iterator<Item = GpuUuid> + '_ {
        let (these, among) = match self {
            Self::These(wants) => (wants.as_slice(), [].as_slice()),
            Self::Any(among) => ([].as_slice(), among.as_slice()),
        };
        these.iter().map(|(gpu, _)| *gpu).chain(among.iter().map(|(gpu, _)| *gpu))
    }

    pub(super) fn wants_any_of(&self, other: &Self) -> bool {
        self.gpus().any(|gpu| other.gpus().any(|wanted| wanted == gpu))
    }

    /// What is left of it when this is granted.
    pub(super) fn without(&self, grant: &Grant) -> Self {
        let Self::These(wants) = self else { return self.clone() };
        let left = |(gpu, want): &(GpuUuid, Want)| {
            let granted: ByteSize = grant.iter().filter(|(granted, _)| granted == gpu).map(|(_, size)| *size).sum();
            match want {
                Want::Bytes(size) => Some((*gpu, Want::Bytes(size.saturating_sub(granted)))),
                Want::Share(_) => granted.is_zero().then_some((*gpu, *want)),
            }
        };
        let left = wants.iter().filter_map(left).filter(|(_, want)| *want != Want::Bytes(ByteSize::ZERO));
        Self::These(left.collect())
    }
}

impl Ticket {
    /// Whether it stands in line: holders that take now or have been let go do not.
    pub fn is_in_line(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Growing)
    }

    /// What is kept from those behind while nothing is granted.
    pub(super) fn reserved(&self) -> Grant {
        let claim = |want: &Want| want.claim(self.margin);
        match &self.request {
            Request::These(wants) => wants.iter().map(|(gpu, want)| (*gpu, claim(want))).collect(),
            Request::Any(among) => {
                let most = |wants: &[Want]| wants.iter().map(claim).max().unwrap_or_default();
                among.iter().map(|(gpu, wants)| (*gpu, most(wants))).collect()
            }
        }
    }

    /// What it cannot do without on a GPU, if it takes there.
    fn least_on(&self, gpu: GpuUuid) -> ByteSize {
        match &self.request {
            Request::These(wants) => {
                wants.iter().filter(|(wanted, _)| *wanted == gpu).map(|(_, want)| want.least()).sum()
            }
            Request::Any(among) => {
                let wants = among.iter().filter(|(wanted, _)| *wanted == gpu).flat_map(|(_, wants)| wants);
                wants.map(|want| want.least()).max().unwrap_or_default()
            }
        }
    }

    /// What it claims on a GPU.
    pub fn claim_on(&self, gpu: GpuUuid) -> ByteSize {
        self.claims.iter().filter(|(claimed, _)| *claimed == gpu).map(|(_, size)| *size).sum()
    }
}

/// The place in line of ticket `number`, 1 for the first, counting those that want one of its GPUs; `tickets` in order.
pub fn place(tickets: &[Ticket], number: u64) -> Option<u32> {
    let own = tickets.iter().find(|ticket| ticket.number == number)?;
    let ahead = tickets
        .iter()
        .filter(|ticket| ticket.number < number && ticket.is_in_line() && ticket.request.wants_any_of(&own.request));
    u32::try_from(ahead.count() + 1).ok()
}

/// The tickets of `later` with what those of `earlier` claimed: what was read as free in between may or may not have it in.
pub fn at_worst(earlier: &[Ticket], later: &[Ticket]) -> Vec<Ticket> {
    let mut tickets = later.to_vec();
    for before in earlier.iter().filter(|before| !before.claims.is_empty()) {
        match tickets.iter_mut().find(|now| now.number == before.number) {
            Some(now) => {
                let larger = before.claims.iter().filter(|(gpu, size)| now.claim_on(*gpu) < *size);
                let larger: Grant = larger.copied().collect();
                now.claims.retain(|(gpu, _)| !larger.iter().any(|(other, _)| other == gpu));
                now.claims.extend(larger);
            }
            None => tickets.push(Ticket { stage: Stage::Admitted, ..before.clone() }),
        }
    }
    tickets.sort_by_key(|ticket| ticket.number);
    tickets
}

/// The GPUs on which ticket `own`, which grows, holds what others ahead of it in line lack. In order they would have taken
/// it first; if it kept it, each would wait for the other.
pub fn owed(tickets: &[Ticket], own: u64, held: &Free, free: &Free) -> Vec<GpuUuid> {
    let is_owed = |gpu: GpuUuid| {
        let ahead = tickets.iter().filter(|ticket| ticket.number < own && ticket.is_in_line());
        let lacking: ByteSize = ahead.map(|ticket| ticket.least_on(gpu)).sum();
        let claimed = tickets.iter().map(|ticket| ticket.claim_on(gpu)).sum();
        free.get(&gpu).is_some_and(|free| !lacking.is_zero() && lacking.saturating_add(claimed) > *free)
    };
    held.iter().filter(|(gpu, size)| !size.is_zero() && is_owed(**gpu)).map(|(gpu, _)| *gpu).collect()
}

/// What each ticket may take now, by its number. `tickets` in order.
///
/// The grants hold for all at once: together they fit into what is free.
pub fn decide(tickets: &[Ticket], free: &Free) -> BTreeMap<u64, Grant> {
    let mut ledger = Ledger::new(tickets, free);
    let mut grants = BTreeMap::new();
    for ticket in tickets {
        let grant = match ticket.stage {
            Stage::Admitted => continue,
            Stage::Still => None,
            Stage::Now | Stage::Waiting => ledger.whole(ticket),
            Stage::Growing => ledger.whole(ticket).or_else(|| ledger.piece(ticket)),
        };
        if let Some(grant) = &grant {
            ledger.take(grant);
        }
        ledger.reserve(ticket, grant.as_ref());
        grants.extend(grant.map(|grant| (ticket.number, grant)));
    }
    grants
}

/// What is left on each GPU while the tickets are looked at one after the other.
struct Ledger {
    /// Without what is claimed and granted.
    free: Free,
    /// What those ahead keep from those behind: those that wait, from others that wait.
    kept_by_line: Free,
    /// Those that take now, from everyone.
    kept_by_now: Free,
    /// Those that stand still, from pieces.
    kept_by_still: Free,
    /// The GPUs where someone is taking.
    busy: Vec<GpuUuid>,
}

impl Ledger {
    fn new(tickets: &[Ticket], free: &Free) -> Self {
        let mut ledger = Self {
            free: free.clone(),
            kept_by_line: Free::new(),
            kept_by_now: Free::new(),
            kept_by_still: Free::new(),
            busy: Vec::new(),
        };
        for ticket in tickets {
            ledger.take(&ticket.claims);
        }
        ledger
    }

    fn take(&mut self, claims: &[(GpuUuid, ByteSize)]) {
        for (gpu, size) in claims.iter().filter(|(_, size)| !size.is_zero()) {
            self.busy.push(*gpu);
            if let Some(free) = self.free.get_mut(gpu) {
                *free = free.saturating_sub(*size);
            }
        }
    }

    /// Keeps what was not granted from those behind.
    fn reserve(&mut self, ticket: &Ticket, grant: Option<&Grant>) {
        let kept = match ticket.stage {
            Stage::Now => &mut self.kept_by_now,
            Stage::Still => &mut self.kept_by_still,
            Stage::Waiting | Stage::Growing | Stage::Admitted => &mut self.kept_by_line,
        };
        let granted = |gpu| {
            grant.into_iter().flatten().filter(|(other, _)| *other == gpu).map(|(_, size)| *size).sum::<ByteSize>()
        };
        if grant.is_some() && ticket.stage != Stage::Growing {
            return;
        }
        for (gpu, size) in ticket.reserved() {
            let kept = kept.entry(gpu).or_default();
            *kept = kept.saturating_add(size.saturating_sub(granted(gpu)));
        }
    }

    fn available(&self, gpu: GpuUuid, stage: Stage) -> ByteSize {
        let kept = |by: &Free| by.get(&gpu).copied().unwrap_or_default();
        let free = self.free.get(&gpu).copied().unwrap_or_default().saturating_sub(kept(&self.kept_by_now));
        if stage == Stage::Now { free } else { free.saturating_sub(kept(&self.kept_by_line)) }
    }

    /// Whether there is room. Beside others it must be enough in any case; alone, an attempt may find out.
    fn fits(&self, gpu: GpuUuid, want: Want, ticket: &Ticket) -> bool {
        let available = self.available(gpu, ticket.stage);
        let is_alone = self.is_alone(gpu, ticket.stage);
        self.free.contains_key(&gpu)
            && match want {
                Want::Bytes(size) if is_alone => available >= size,
                Want::Bytes(size) => available >= size.saturating_add(ticket.margin),
                Want::Share(least) => is_alone && available >= least,
            }
    }

    /// Whether nobody takes on a GPU, and nobody ahead keeps a part of it.
    fn is_alone(&self, gpu: GpuUuid, stage: Stage) -> bool {
        self.free.get(&gpu) == Some(&self.available(gpu, stage)) && !self.busy.contains(&gpu)
    }

    /// Everything that is asked for, or nothing.
    fn whole(&self, ticket: &Ticket) -> Option<Grant> {
        match &ticket.request {
            Request::These(wants) => {
                let fits = wants.iter().all(|(gpu, want)| self.fits(*gpu, *want, ticket));
                fits.then(|| wants.iter().map(|(gpu, want)| (*gpu, want.claim(ticket.margin))).collect())
            }
            Request::Any(among) => self.choose(among, ticket),
        }
    }

    /// The largest want goes to the GPU with the most free memory, and so on. Both sorts keep the order among equals, which
    /// for GPUs is that of their ordinals.
    fn choose(&self, among: &[(GpuUuid, Vec<Want>)], ticket: &Ticket) -> Option<Grant> {
        let mut among: Vec<&(GpuUuid, Vec<Want>)> = among.iter().collect();
        among.sort_by_key(|(gpu, _)| std::cmp::Reverse(self.available(*gpu, ticket.stage)));
        let (_, wants) = among.first()?;
        let mut largest_first: Vec<usize> = (0..wants.len()).collect();
        largest_first.sort_by_key(|rank| std::cmp::Reverse(wants[*rank].least()));
        let mut chosen = Vec::new();
        for rank in largest_first {
            let fits = |(gpu, wants): &&(GpuUuid, Vec<Want>)| self.fits(*gpu, wants[rank], ticket);
            let (gpu, wants) = among.remove(among.iter().position(fits)?);
            chosen.push((rank, (*gpu, wants[rank].claim(ticket.margin))));
        }
        chosen.sort_by_key(|(rank, _)| *rank);
        Some(chosen.into_iter().map(|(_, granted)| granted).collect())
    }

    /// What there is of what is asked for.
    fn piece(&self, ticket: &Ticket) -> Option<Grant> {
        let Request::These(wants) = &ticket.request else { return None };
        let pieces = wants.iter().filter_map(|(gpu, want)| match want {
            Want::Bytes(_) => {
                let still = self.kept_by_still.get(gpu).copied().unwrap_or_default();
                let piece = self.available(*gpu, Stage::Growing).saturating_sub(still).min(want.claim(ticket.margin));
                // What the context may cost more than the piece would come from those ahead.
                (piece > ticket.margin || self.is_alone(*gpu, Stage::Growing)).then_some((*gpu, piece))
            }
            Want::Share(_) => self.fits(*gpu, *want, ticket).then_some((*gpu, EVERYTHING)),
        });
        let pieces: Grant = pieces.filter(|(_, size)| !size.is_zero()).collect();
        (!pieces.is_empty()).then_some(pieces)
    }
}

#[cfg(test)]
pub(super) mod tests;
