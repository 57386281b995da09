//! The rules in the long run: a small machine whose holders arrive, take, fail, leave and are killed in any order.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const GPUS: u8 = 4;
const CAPACITY: u64 = 16;

/// 50 machines of 200 steps: 10,000 steps.
const MACHINES: u32 = 50;
const STEPS: usize = 200;

#[derive(Debug, Clone)]
enum Step {
    Arrive(Stage, Request),
    /// A holder that is granted something takes the grant on.
    Act(Index),
    /// One that was let go allocates a part of what it claims.
    Allocate(Index),
    /// It finds less than it was promised, gives back and waits on.
    Fail(Index),
    /// One that holds everything leaves, or any one is killed.
    Leave(Index),
    Kill(Index),
    /// Someone else's process takes from what nobody claims, or frees.
    OthersTake(u8, u64),
    OthersFree(u8, u64),
}

fn bytes() -> impl Strategy<Value = u64> {
    1..=CAPACITY
}

fn requests() -> impl Strategy<Value = Request> {
    let some_gpus = || proptest::sample::subsequence((0..GPUS).collect::<Vec<_>>(), 1..=usize::from(GPUS));
    let want = || prop_oneof![8 => bytes().prop_map(|bytes| Want::Bytes(size(bytes))), 1 => Just(Want::Share(size(1)))];
    let these = some_gpus().prop_flat_map(move |gpus| {
        proptest::collection::vec(want(), gpus.len())
            .prop_map(move |wants| Request::These(gpus.iter().copied().map(gpu).zip(wants).collect()))
    });
    let any = some_gpus().prop_flat_map(move |gpus| {
        proptest::collection::vec(want(), 1..=gpus.len())
            .prop_map(move |wants| Request::Any(gpus.iter().map(|&number| (gpu(number), wants.clone())).collect()))
    });
    prop_oneof![3 => these, 1 => any]
}

fn steps() -> impl Strategy<Value = Step> {
    let arrive = prop_oneof![
        4 => requests().prop_map(|request| Step::Arrive(Waiting, request)),
        1 => requests().prop_map(|request| Step::Arrive(Now, request)),
        1 => requests().prop_map(|request| Step::Arrive(
            if matches!(request, Request::These(_)) { Growing } else { Waiting },
            request
        )),
    ];
    prop_oneof![
        3 => arrive,
        4 => any::<Index>().prop_map(Step::Act),
        5 => any::<Index>().prop_map(Step::Allocate),
        1 => any::<Index>().prop_map(Step::Fail),
        2 => any::<Index>().prop_map(Step::Leave),
        1 => any::<Index>().prop_map(Step::Kill),
        1 => (0..GPUS, bytes()).prop_map(|(gpu, bytes)| Step::OthersTake(gpu, bytes)),
        2 => (0..GPUS, bytes()).prop_map(|(gpu, bytes)| Step::OthersFree(gpu, bytes)),
    ]
}

/// A holder: its ticket, which is torn up once it holds everything, and what it holds.
#[derive(Debug)]
struct Holder {
    ticket: Ticket,
    held: Free,
    asked: (Stage, Request),
}

impl Holder {
    fn is_done(&self) -> bool {
        let nothing_left = matches!(&self.ticket.request, Request::These(wants) if wants.is_empty());
        let is_granted = self.ticket.stage == Stage::Admitted || self.ticket.stage == Growing && nothing_left;
        is_granted && self.ticket.claims.is_empty()
    }
}

#[derive(Debug, Default)]
struct Machine {
    others: Free,
    holders: Vec<Holder>,
    next: u64,
}

impl Machine {
    fn free(&self) -> Free {
        let held = |gpu| self.holders.iter().filter_map(|holder| holder.held.get(&gpu).copied()).sum::<ByteSize>();
        let others = |gpu| self.others.get(&gpu).copied().unwrap_or_default();
        (0..GPUS).map(gpu).map(|gpu| (gpu, size(CAPACITY - others(gpu).bytes() - held(gpu).bytes()))).collect()
    }

    fn tickets(&self) -> Vec<Ticket> {
        self.holders.iter().filter(|holder| !holder.is_done()).map(|holder| holder.ticket.clone()).collect()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Arrive(stage, request) => {
                let ticket = ticket(self.next, *stage, request.clone());
                self.holders.push(Holder { ticket, held: Free::new(), asked: (*stage, request.clone()) });
                self.next += 1;
            }
            Step::Act(index) => {
                let grants: Vec<(u64, Grant)> = decide(&self.tickets(), &self.free()).into_iter().collect();
                if !grants.is_empty() {
                    let (number, grant) = index.get(&grants);
                    self.act(*number, grant.clone());
                }
            }
            Step::Allocate(index) => self.with(index, |machine, at| machine.allocate(at)),
            Step::Fail(index) => self.with(index, |machine, at| {
                let holder = &mut machine.holders[at];
                if !holder.is_done() && holder.ticket.stage == Stage::Admitted {
                    let (stage, request) = holder.asked.clone();
                    holder.ticket = ticket(holder.ticket.number, stage, request);
                    holder.held.clear();
                }
            }),
            Step::Leave(index) => self.with(index, |machine, at| {
                if machine.holders[at].is_done() {
                    machine.holders.remove(at);
                }
            }),
            Step::Kill(index) => self.with(index, |machine, at| {
                machine.holders.remove(at);
            }),
            Step::OthersTake(number, bytes) => {
                let claimed: ByteSize = self.tickets().iter().map(|ticket| ticket.claim_on(gpu(*number))).sum();
                let unclaimed = self.free()[&gpu(*number)].saturating_sub(claimed);
                let taken = self.others.entry(gpu(*number)).or_default();
                *taken = taken.saturating_add(unclaimed.min(size(*bytes)));
            }
            Step::OthersFree(number, bytes) => {
                let taken = self.others.entry(gpu(*number)).or_default();
                *taken = taken.saturating_sub(size(*bytes));
            }
        }
        self.check();
    }

    fn with(&mut self, index: &Index, then: impl FnOnce(&mut Self, usize)) {
        if !self.holders.is_empty() {
            let at = index.index(self.holders.len());
            then(self, at);
        }
    }

    /// Takes a grant on, as the holder does: what it may take becomes its claims.
    fn act(&mut self, number: u64, grant: Grant) {
        self.check_order(number, &grant);
        let Some(holder) = self.holders.iter_mut().find(|holder| holder.ticket.number == number) else { return };
        match holder.ticket.stage {
            Growing => holder.ticket.request = holder.ticket.request.without(&grant),
            _ => holder.ticket.stage = Stage::Admitted,
        }
        holder.ticket.claims.extend(grant);
    }

    /// Half of a claim becomes held. A share is resolved first, to half of what is free.
    fn allocate(&mut self, at: usize) {
        let free = self.free();
        let holder = &mut self.holders[at];
        let Some((gpu, claim)) = holder.ticket.claims.first_mut() else { return };
        if *claim == EVERYTHING {
            *claim = size(free[gpu].bytes() / 2);
        }
        let part = size(claim.bytes().div_ceil(2));
        *claim = claim.saturating_sub(part);
        let held = holder.held.entry(*gpu).or_default();
        *held = held.saturating_add(part);
        holder.ticket.claims.retain(|(_, claim)| !claim.is_zero());
    }

    /// Never more granted than free; a share alone on its GPU.
    fn check(&self) {
        let tickets = self.tickets();
        for (gpu, free) in self.free() {
            let claims: Vec<ByteSize> = tickets.iter().map(|ticket| ticket.claim_on(gpu)).collect();
            let claims: Vec<ByteSize> = claims.into_iter().filter(|claim| !claim.is_zero()).collect();
            assert!(
                claims.len() == 1 && claims[0] == EVERYTHING || claims.iter().copied().sum::<ByteSize>() <= free,
                "{gpu}: {claims:?} of {free}"
            );
        }
    }

    /// Whoever goes leaves all that those before it in line want on its GPUs.
    fn check_order(&self, number: u64, grant: &Grant) {
        let tickets = self.tickets();
        let Some(own) = tickets.iter().find(|ticket| ticket.number == number) else { return };
        let earlier = |ticket: &&Ticket| ticket.number < number && (ticket.is_in_line() || ticket.stage == Now);
        let earlier = tickets.iter().filter(earlier).filter(|ticket| own.stage != Now || ticket.stage == Now);
        // Those that go at the same time need nothing kept: what they take counts.
        let grants = decide(&tickets, &self.free());
        let mut left = self.free();
        let mut take = |gpu, size: ByteSize| {
            let free = left.get_mut(&gpu).unwrap();
            *free = if size == EVERYTHING { ByteSize::ZERO } else { free.checked_sub(size).expect("granted twice") };
        };
        tickets.iter().flat_map(|ticket| &ticket.claims).for_each(|(gpu, size)| take(*gpu, *size));
        grant.iter().for_each(|(gpu, size)| take(*gpu, *size));
        for ticket in earlier {
            let wanted = match grants.get(&ticket.number) {
                Some(granted) if ticket.stage != Growing => granted.clone(),
                _ => ticket.reserved(),
            };
            for (gpu, size) in wanted.into_iter().filter(|(gpu, _)| grant.iter().any(|(granted, _)| granted == gpu)) {
                take(gpu, size);
            }
        }
    }

    /// When nobody comes any more, everyone gets what it waits for and leaves, although others keep as much as they can
    /// without making a request impossible.
    fn drain(&mut self) {
        for number in 0..GPUS {
            let asked = |holder: &Holder| ticket(0, Waiting, holder.asked.1.clone()).least_on(gpu(number));
            let most = self.holders.iter().map(asked).max().unwrap_or_default();
            let others = self.others.entry(gpu(number)).or_default();
            *others = (*others).min(size(CAPACITY).saturating_sub(most));
        }
        for _ in 0..100 * (self.holders.len() + 1) {
            // Whoever takes now and finds too little has failed.
            let grants = decide(&self.tickets(), &self.free());
            let no_one_takes = self.tickets().iter().all(|ticket| ticket.claims.is_empty());
            let fails = |holder: &Holder| {
                no_one_takes && holder.ticket.stage == Now && !grants.contains_key(&holder.ticket.number)
            };
            self.holders.retain(|holder| !holder.is_done() && !fails(holder));
            let grants = decide(&self.tickets(), &self.free());
            if let Some((number, grant)) = grants.into_iter().next() {
                self.act(number, grant);
            } else if no_one_takes {
                self.give_back();
            }
            (0..self.holders.len()).for_each(|at| self.allocate(at));
            self.check();
        }
        assert!(self.holders.is_empty(), "these wait for ever: {:#?}", self.holders);
    }

    /// The first of those that owe gives back.
    fn give_back(&mut self) {
        let (tickets, free) = (self.tickets(), self.free());
        for holder in self.holders.iter_mut().filter(|holder| holder.ticket.stage == Growing) {
            let owed = owed(&tickets, holder.ticket.number, &holder.held, &free);
            let Some(gpu) = owed.first() else { continue };
            let freed = holder.held.remove(gpu).unwrap_or_default();
            let Request::These(wants) = &mut holder.ticket.request else { continue };
            match wants.iter_mut().find(|(wanted, _)| wanted == gpu) {
                Some((_, want)) => *want = Want::Bytes(want.least().saturating_add(freed)),
                None => wants.push((*gpu, Want::Bytes(freed))),
            }
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(MACHINES) })]

    #[test]
    fn nobody_gets_too_much_loses_its_place_or_waits_for_ever(
        steps in proptest::collection::vec(steps(), STEPS),
    ) {
        let mut machine = Machine::default();
        steps.iter().for_each(|step| machine.step(step));
        machine.drain();
    }

    /// With those behind and without them, each of the line is let go at the same time. What others free comes free at
    /// given times; whoever is let go holds for ever, so that passing would tell.
    #[test]
    fn who_comes_later_delays_nobody(
        line in proptest::collection::vec(fixed_requests(), 2..8),
        freed in proptest::collection::vec((0..GPUS, bytes()), 40),
    ) {
        let alone = (1..=line.len()).map(|count| times(&line[..count], &freed)[count - 1]);
        prop_assert_eq!(alone.collect::<Vec<_>>(), times(&line, &freed));
    }
}

/// The first waits for both GPUs; the second, which grows, has taken beside it what someone else then takes from the first.
#[test]
fn no_circle_closes_when_others_take_what_was_kept() {
    let mut machine = Machine::default();
    machine.step(&Step::OthersTake(1, CAPACITY));
    machine.step(&Step::Arrive(Waiting, these(&[(0, 10), (1, 10)])));
    machine.step(&Step::Arrive(Growing, these(&[(0, 6), (1, 10)])));
    let (number, grant) = decide(&machine.tickets(), &machine.free()).pop_first().unwrap();
    assert_eq!((number, &grant), (1, &vec![(gpu(0), size(6))]));
    machine.act(number, grant);
    while !machine.holders[1].ticket.claims.is_empty() {
        machine.allocate(1);
    }
    machine.step(&Step::OthersTake(0, 5));
    machine.drain();
}

fn fixed_requests() -> impl Strategy<Value = Vec<(u8, u64)>> {
    proptest::sample::subsequence((0..GPUS).collect::<Vec<_>>(), 1..=3).prop_flat_map(|gpus| {
        proptest::collection::vec(bytes(), gpus.len()).prop_map(move |bytes| gpus.iter().copied().zip(bytes).collect())
    })
}

/// When each of the line is let go, `None` for never.
fn times(line: &[Vec<(u8, u64)>], freed: &[(u8, u64)]) -> Vec<Option<usize>> {
    let mut tickets: Vec<Ticket> =
        (0..).zip(line).map(|(number, wants)| ticket(number, Waiting, these(wants))).collect();
    let mut left = free(&[0; GPUS as usize]);
    let mut times = vec![None; line.len()];
    for (time, (number, bytes)) in freed.iter().enumerate() {
        let free = left.get_mut(&gpu(*number)).unwrap();
        *free = free.saturating_add(size(*bytes));
        for (number, grant) in decide(&tickets, &left) {
            times[number as usize] = Some(time);
            tickets.retain(|ticket| ticket.number != number);
            for (gpu, size) in grant {
                let free = left.get_mut(&gpu).unwrap();
                *free = free.saturating_sub(size);
            }
        }
    }
    times
}
