//! The way to the holder. Everything here gives up quietly: without a holder the job goes on as if there were none.

use core::sync::atomic::Ordering::{Relaxed, Release};

use crate::driver::{OUT_OF_MEMORY, Status};
use crate::lending;
use crate::protocol::{
    Answer, BEGINS, Config, HELLO, LEND, LEND_ONE, LOOK, MAGIC, MAX_GPUS, MAX_SLOTS, NEED, PATH, PATIENCE_SECONDS, PATIENT, Page,
    Pieces, REACH, READY, RETURN, Request, Slot, Uuid, VIEW, VIEW_RAW, Welcome,
};
use crate::state::state;
use crate::system::{self, Descriptors, Futex, Socket};

/// Written into the image by the holder. `static mut` keeps it in the image's writable part and its value unknown to the
/// compiler.
static mut CONFIG: Config = Config { magic: MAGIC, view: VIEW_RAW, lends: 0, measures: 0, socket: [0; PATH] };

fn config() -> Config {
    // SAFETY: nobody writes to it in this process; the holder did before the image was loaded.
    unsafe { (&raw const CONFIG).read_volatile() }
}

/// Which memory the job is to see.
pub fn view() -> u32 {
    config().view
}

/// When memory of the balloon can be borrowed.
pub fn lends() -> u32 {
    config().lends
}

/// The shared page and this process's slot on it.
pub struct Membership {
    page: &'static Page,
    slot: &'static Slot,
    count: usize,
    uuids: [Uuid; MAX_GPUS],
}

/// A connection to the holder, which first hears what could not be said before.
fn connect() -> Option<Socket> {
    let socket = Socket::connect(&config().socket, PATIENCE_SECONDS)?;
    if let Some(state) = state() {
        let mut unsaid = state.unsaid.lock();
        while let Some(last) = unsaid.items().len().checked_sub(1) {
            if !socket.send(&unsaid.items()[last]) {
                break;
            }
            unsaid.remove(last);
        }
    }
    Some(socket)
}

/// Says hello; `None` if nobody answers or no slot is left.
pub fn join() -> Option<Membership> {
    let socket = Socket::connect(&config().socket, PATIENCE_SECONDS)?;
    // Not by way of `connect`: whoever says hello owes nothing.
    if !socket.send(&Request::new(HELLO, [0; 16])) {
        return None;
    }
    let mut welcome = Welcome { slot: u32::MAX, count: 0, uuids: [[0; 16]; MAX_GPUS] };
    let page = socket.receive(&mut welcome)?;
    let (slot, count) = (welcome.slot as usize, welcome.count as usize);
    if slot >= MAX_SLOTS || count > MAX_GPUS {
        return None;
    }
    let page = system::map_shared(page.first()?, size_of::<Page>())?;
    // SAFETY: the holder's memory, of this size and layout, sealed against shrinking, and never unmapped here.
    let page = unsafe { &*page.cast::<Page>() };
    Some(Membership { page, slot: &page.slots[slot], count, uuids: welcome.uuids })
}

impl Membership {
    pub fn uuids(&self) -> &[Uuid] {
        &self.uuids[..self.count]
    }

    /// Adds to this process's count, and wakes the holder once the job's growth has crossed another step.
    pub fn count(&self, gpu: u8, change: i64) {
        let gpu = usize::from(gpu);
        let news = &self.page.gpus[gpu];
        self.slot.used[gpu].fetch_add(change, Relaxed);
        let unread = news.unread.fetch_add(change, Relaxed) + change;
        // Looked at first: to change it takes far longer.
        if unread > news.highest.load(Relaxed) {
            news.highest.fetch_max(unread, Relaxed);
        }
        let since = unread - news.rung.load(Relaxed);
        if since >= news.step.load(Relaxed) || -since >= news.step_back.load(Relaxed) {
            news.rung.store(unread, Relaxed);
            self.ring();
        }
    }

    /// Notes that this process has made a context on a GPU.
    pub fn has_context(&self, gpu: u8) {
        self.slot.contexts.fetch_or(1 << gpu, Relaxed);
    }

    pub fn ring_for_unsized(&self) {
        self.page.unsized_news.fetch_add(1, Relaxed);
        self.ring();
    }

    fn ring(&self) {
        self.page.bell.fetch_add(1, Release);
        system::futex_wake(&self.page.bell, i32::MAX as usize, Futex::Shared);
    }
}

/// Waits until the holder has looked at what this process has by NVML, if it wants to: the process may be gone in a moment.
pub fn be_measured() {
    if config().measures != 0
        && let Some(socket) = connect()
    {
        ask(&socket, &Request::new(LOOK, [0; 16]));
    }
}

/// What the holder knows of a GPU's memory, read in one go.
pub fn memory(gpu: Uuid) -> Option<Answer> {
    let socket = connect()?;
    ask(&socket, &Request::new(VIEW, gpu)).filter(|answer| answer.yes != 0)
}

fn ask(socket: &Socket, request: &Request) -> Option<Answer> {
    let mut answer = Answer::default();
    (socket.send(request) && socket.receive(&mut answer).is_some()).then_some(answer)
}

/// Memory of the balloon that this process borrows.
pub struct Loan {
    socket: Socket,
    gpu: Uuid,
    number: u64,
    /// Bytes.
    pub size: u64,
}

impl Loan {
    /// Borrows at least `size` bytes under a number that was given to no loan before.
    pub fn ask(gpu: Uuid, number: u64, size: u64) -> Option<Self> {
        Self::ask_for(LEND, gpu, number, size)
    }

    /// Borrows one piece of exactly `size` bytes.
    pub fn ask_for_one(gpu: Uuid, number: u64, size: u64) -> Option<Self> {
        Self::ask_for(LEND_ONE, gpu, number, size)
    }

    fn ask_for(kind: u32, gpu: Uuid, number: u64, size: u64) -> Option<Self> {
        let loan = Self { socket: connect()?, gpu, number, size: 0 };
        match ask(&loan.socket, &Request { size, loan: number, ..Request::new(kind, gpu) }) {
            Some(answer) => (answer.yes != 0).then_some(Self { size: answer.balloon, ..loan }),
            None => {
                // The holder may have been stopped, and lend it when nobody waits for that any more.
                loan.give_back_from(0);
                None
            }
        }
    }

    /// Asks for some of its pieces, from this place on.
    pub fn ask_for_pieces(&self, place: u32) -> Option<()> {
        self.socket.send(&Request { loan: self.number, place, ..Request::new(REACH, self.gpu) }).then_some(())
    }

    /// Some of the pieces asked for, as many as this process may open: their common size, and a descriptor for each.
    pub fn pieces(&self) -> Option<(u64, Descriptors)> {
        let mut pieces = Pieces::default();
        let descriptors = self.socket.receive(&mut pieces)?;
        (pieces.count > 0 && descriptors.count() > 0).then_some((pieces.size, descriptors))
    }

    /// Gives back the pieces from this place on, none of which is mapped. Over the loan's own connection: there may be no
    /// descriptor left for another, for want of which the pieces could not be had.
    pub fn give_back_from(self, place: u32) {
        self.socket.send(&returned(self.gpu, self.number, place, u64::MAX));
    }
}

fn returned(gpu: Uuid, loan: u64, place: u32, count: u64) -> Request {
    Request { size: count, loan, place, ..Request::new(RETURN, gpu) }
}

/// Says that `count` pieces of a loan are mapped no longer. Nobody waits for that: who borrows next is heard after this. If it
/// cannot be said now, because this process may open no more descriptors, say, it comes before whatever is said next.
pub fn give_back(gpu: Uuid, loan: u64, place: u32, count: u64) {
    let request = returned(gpu, loan, place, count);
    let is_said = connect().is_some_and(|socket| socket.send(&request));
    if !is_said && let Some(state) = state() {
        let mut unsaid = state.unsaid.lock();
        let last = unsaid.items().len();
        unsaid.insert(last, request);
    }
}

/// How much a call needs.
#[derive(Clone, Copy)]
pub enum Need {
    Bytes(u64),
    /// The same, and it can be borrowed if others are faster.
    BytesOrLoan(u64),
    /// Nobody tells, but as much has been seen to do.
    About(u64),
    /// Nobody tells: at first as much, then twice as much at each try.
    AtLeast(u64),
}

impl Need {
    /// How many, where that is known.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::Bytes(size) | Self::BytesOrLoan(size) => Some(size),
            Self::About(_) | Self::AtLeast(_) => None,
        }
    }
}

/// How many microseconds to look for the answer without sleeping, once way is being given. The holder may have been stopped.
const EAGER: i64 = 5000;

/// How many times in a row others may be faster before the driver's word counts. The holder, which sees what they take, says
/// no before that where it is much.
const LOST_RACES: u32 = 64;
/// The same where the need is only guessed, and so may be far larger than thought.
const WRONG_GUESSES: u32 = 6;

/// One process's turn on a GPU, from the driver's refusal until what it needed is allocated and counted. Nothing is asked
/// unless the driver refuses. Dropped, it is the next process's turn.
#[derive(Default)]
pub struct Turn(Option<Socket>);

impl Turn {
    /// Has the holder give way to what is needed and tries `call` each time that it has, until that is not refused for want
    /// of memory, or until the holder has nothing left or others are faster again and again. Gives the last status; out of
    /// memory also if nothing was tried.
    ///
    /// Where a refusal takes no time, `eager` goes on trying while way is given. Else there is no try before: one that fails
    /// would hold the holder up, and still be under way when others take what was freed.
    pub fn insist(
        &mut self,
        gpu: Uuid,
        need: Need,
        eager: impl Fn() -> bool,
        mut call: impl FnMut() -> Status,
    ) -> Status {
        self.0 = connect();
        let Some(socket) = &self.0 else { return OUT_OF_MEMORY };
        let (size, is_guess, growth, most) = match need {
            Need::Bytes(size) => (size, 0, 0, LOST_RACES),
            // Whoever was faster once would be again.
            Need::BytesOrLoan(size) => (size, 0, 0, u32::from(!lending::comes_first())),
            Need::About(size) => (size, 1, 0, WRONG_GUESSES),
            Need::AtLeast(size) => (size, 1, 1, WRONG_GUESSES),
        };
        for lost in 0..most {
            let request = Request { is_guess, size: size << (growth * lost), ..Request::new(NEED, gpu) };
            if lost > 0 && is_guess == 0 {
                // Out of step with whoever was faster.
                system::sleep(i64::from(lost.min(4)));
            }
            let mut tried = || eager().then(&mut call).filter(|status| *status != OUT_OF_MEMORY);
            let status = match give_way(socket, &request, &mut tried) {
                Way::Taken(status) => status,
                Way::Clear => call(),
                Way::Blocked => break,
            };
            if status != OUT_OF_MEMORY {
                return status;
            }
        }
        OUT_OF_MEMORY
    }
}

/// What asking for way came to.
enum Way {
    /// It was given: a try may succeed.
    Clear,
    /// There is none, or nobody to give it.
    Blocked,
    /// A try succeeded meanwhile, or failed for another reason.
    Taken(Status),
}

/// Asks once, and tells as soon as way is given: what is freed is up for grabs, and others are quick. Until then `tried` may
/// try as well.
fn give_way(socket: &Socket, request: &Request, tried: &mut dyn FnMut() -> Option<Status>) -> Way {
    let mut answer = Answer { yes: PATIENT, ..Answer::default() };
    if !socket.send(request) {
        return Way::Blocked;
    }
    let mut begun = None;
    while matches!(answer.yes, PATIENT | BEGINS) {
        if answer.yes == BEGINS {
            answer.yes = PATIENT;
            socket.send(&Request { kind: READY, ..*request });
            begun = Some(system::now());
        }
        let received = if begun.is_some_and(|begun| system::now() - begun < EAGER) {
            if let Some(status) = tried() {
                return Way::Taken(status);
            }
            socket.receive_at_once(&mut answer).is_ok()
        } else {
            socket.receive(&mut answer).is_some()
        };
        if !received {
            return Way::Blocked;
        }
    }
    if answer.yes == 0 { Way::Blocked } else { Way::Clear }
}
