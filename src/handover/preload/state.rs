//! What this process knows about itself as a part of the job. A forked child finds all of it zeroed and starts anew: what
//! its parent allocated is not the child's, and neither is the parent's slot.

use core::mem::MaybeUninit;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU64};

use crate::current::Remembered;
use crate::driver;
use crate::heap::Heap;
use crate::holder::{self, Membership};
use crate::lending;
use crate::list::List;
use crate::lock::{Lock, Locked};
use crate::pools::Pools;
use crate::protocol::{MAX_GPUS, Request, Uuid};
use crate::system;
use crate::table::{Entry, Kind, Table};

/// CUDA devices that are remembered; others are looked up each time.
pub const DEVICES: usize = 64;

/// All zero: nothing known yet.
#[repr(C)]
pub struct State {
    joining: Lock,
    joined: AtomicU8,
    membership: AtomicPtr<Membership>,
    storage: Locked<MaybeUninit<Membership>>,
    /// By CUDA device: 0 not looked up, 1 not of the reservation, else the GPU's number plus 2.
    devices: [AtomicU8; DEVICES],
    pub current: Remembered,
    /// How the driver refused memory last: one of the values below, 0 if it never did.
    refusal: AtomicU8,
    pub table: Locked<Table>,
    pub pools: Pools,
    /// By CUDA device: the primary context as it was last handed out.
    pub primary: Locked<[u64; DEVICES]>,
    /// By CUDA device: which others were allowed to access its memory, a bit each.
    pub peers: [AtomicU64; DEVICES],
    /// By GPU of the reservation: what is borrowed of its balloon.
    pub heaps: Locked<[Heap; MAX_GPUS]>,
    /// What the holder has yet to be told.
    pub unsaid: Locked<List<Request>>,
    /// Whether anything ever was borrowed.
    pub has_borrowed: AtomicBool,
    /// Until when it is better to borrow than to ask the driver, on the clock of [`system::now`]; 0 if it never was.
    pub wary_until: AtomicI64,
}

/// What takes the driver so long that asking it for the context does not count.
const LARGE: u64 = 1 << 20;

const QUICKLY: u8 = 1;
const SLOWLY: u8 = 2;
/// Microseconds from which on a refusal is slow.
const SLOW: i64 = 4000;

const UNKNOWN: u8 = 0;
const MEMBER: u8 = 1;
const REFUSED: u8 = 2;

static STATE: AtomicPtr<State> = AtomicPtr::new(core::ptr::null_mut());

/// The state, if there is any yet.
fn known_state() -> Option<&'static State> {
    // SAFETY: null, or mapped by `state`.
    unsafe { STATE.load(Acquire).as_ref() }
}

/// This process's state; `None` where there is no memory for it, or no kernel that wipes it on fork.
pub fn state() -> Option<&'static State> {
    let mut state = STATE.load(Acquire);
    if state.is_null() {
        let length = size_of::<State>();
        let fresh = system::map_wiped_on_fork(length)?.cast::<State>();
        state = match STATE.compare_exchange(state, fresh, AcqRel, Acquire) {
            Ok(_) => fresh,
            Err(first) => {
                system::unmap(fresh.cast(), length);
                first
            }
        };
    }
    // SAFETY: mapped above, zeroed, which is a value of every field, and never unmapped.
    Some(unsafe { &*state })
}

impl State {
    /// This process's slot with the holder, asked for at the first call; `None` without a holder.
    pub fn membership(&self) -> Option<&Membership> {
        if self.joined.load(Acquire) == UNKNOWN {
            let _one_at_a_time = self.joining.take();
            if self.joined.load(Acquire) == UNKNOWN {
                let outcome = match holder::join() {
                    Some(membership) => {
                        let at: *mut Membership = self.storage.lock().write(membership);
                        self.membership.store(at, Release);
                        MEMBER
                    }
                    None => REFUSED,
                };
                self.joined.store(outcome, Release);
            }
        }
        // SAFETY: null, or written above once and never again in this process.
        unsafe { self.membership.load(Acquire).as_ref() }
    }

    /// The number of a CUDA device among the GPUs of the reservation.
    pub fn gpu(&self, device: i32) -> Option<u8> {
        let place = usize::try_from(device).ok().and_then(|device| self.devices.get(device));
        let known = place.map_or(0, |place| place.load(Relaxed));
        if known != 0 {
            return known.checked_sub(2);
        }
        let membership = self.membership()?;
        let uuid = driver::uuid(device)?;
        let gpu = membership.uuids().iter().position(|one| *one == uuid).map(|at| at as u8);
        if let Some(place) = place {
            place.store(gpu.map_or(1, |gpu| gpu + 2), Relaxed);
        }
        gpu
    }

    /// The identity of a GPU of the reservation.
    pub fn uuid(&self, gpu: u8) -> Option<Uuid> {
        self.membership()?.uuids().get(usize::from(gpu)).copied()
    }

    /// Counts `change` bytes on a GPU of the reservation. No system call, unless it is time to wake the holder.
    pub fn count(&self, gpu: u8, change: i64) {
        if change != 0
            && let Some(membership) = self.membership()
        {
            membership.count(gpu, change);
        }
    }

    /// Rings for something that took or freed memory of which nobody told the size.
    pub fn unsized_news(&self) {
        if let Some(membership) = self.membership() {
            membership.ring_for_unsized();
        }
    }

    /// The process has made a context on a CUDA device.
    pub fn context_made(&self, device: i32) {
        if let (Some(gpu), Some(membership)) = (self.gpu(device), self.membership()) {
            membership.has_context(gpu);
        }
        self.unsized_news();
        holder::be_measured();
    }

    /// Takes note of how long the driver took to refuse memory.
    pub fn refused(&self, microseconds: i64) {
        self.refusal.store(if microseconds < SLOW { QUICKLY } else { SLOWLY }, Relaxed);
    }

    /// Whether the driver takes long to refuse memory: ten milliseconds on an H100, where an allocation takes sixty
    /// microseconds.
    pub fn refusals_are_slow(&self) -> bool {
        self.refusal.load(Relaxed) == SLOWLY
    }

    /// Whether the driver would refuse `size` bytes, where it is quicker to ask.
    pub fn would_refuse(&self, size: u64) -> bool {
        size >= LARGE && self.refusals_are_slow() && driver::free_memory().is_some_and(|free| free < size)
    }

    /// Notes what was allocated and counts it.
    pub fn add(&self, entry: Entry) {
        if self.table.lock().insert(entry) {
            self.count(entry.gpu, entry.size.cast_signed());
        }
    }

    /// Forgets what lived in a context that is gone.
    pub fn context_gone(&self, context: u64) {
        self.current.forget_all();
        for kind in [Kind::Memory, Kind::Array] {
            self.table.lock().remove_owned(kind, context, |entry| self.count(entry.gpu, -entry.size.cast_signed()));
        }
        lending::context_gone(self, context);
        self.pools.refresh_all(self);
        self.unsized_news();
    }
}

/// Notes `size` bytes, allocated in the current context, under `key`.
pub fn allocated(kind: Kind, key: u64, size: u64) {
    let noted = || {
        let state = state()?;
        let current = state.current.get(state, size >= LARGE)?;
        state.add(Entry { key, size, owner: current.context, kind, gpu: current.gpu, handles: 0, mappings: 0 });
        Some(())
    };
    noted();
}

/// The context of the calling thread has changed.
pub fn switched() {
    if let Some(state) = known_state() {
        state.current.forget();
    }
}

/// Frees `key` by calling the driver. The entry goes first: as soon as the driver has freed the address, another thread may
/// get it. Says nothing where `key` is not noted.
pub fn freeing(kind: Kind, key: u64, free: impl FnOnce() -> driver::Status) -> driver::Status {
    let Some(state) = state() else { return free() };
    let entry = state.table.lock().remove(kind, key);
    let status = free();
    match entry {
        Some(entry) if status == driver::SUCCESS => state.count(entry.gpu, -entry.size.cast_signed()),
        Some(entry) => {
            state.table.lock().insert(entry);
        }
        None => state.pools.freed(),
    }
    status
}
