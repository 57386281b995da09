//! What the holder and the library in the job have in common. Both sides compile this file, so it uses `core` alone.
//!
//! Two ways lead from a job's process to its holder. The [`Page`] is memory that both map: there the process counts what
//! it allocates, without a system call. The socket carries what needs an answer: one [`Request`] is one packet.

use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};

/// GPUs of one holder, MIG instances included.
pub const MAX_GPUS: usize = 64;
/// Processes of one job that use CUDA at the same time.
pub const MAX_SLOTS: usize = 1024;
/// Longest path of the socket, its final NUL included (unix(7)).
pub const PATH: usize = 108;

/// How long a process waits for an answer before it goes on as if there were no holder.
pub const PATIENCE_SECONDS: i64 = 2;

/// What a context takes of its GPU's memory as a rule, in bytes: 526 MiB on an H100 (NVML's account, driver 580).
pub const CONTEXT: u64 = 528 << 20;
/// What the driver takes besides for a stream, for tables of pages, or for the first copy, in bytes, as far as has been seen.
pub const LITTLE: u64 = 64 << 20;

/// By these bytes the holder finds the [`Config`] in the library's image.
pub const MAGIC: [u8; 16] = *b"\x00gpu-balloon job";

/// A GPU's identity, as `cuDeviceGetUuid_v2` gives it.
pub type Uuid = [u8; 16];

/// What the holder writes into the library before it hands it out: no variable in the job's environment is needed, and
/// two holders around one job do not take each other's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Config {
    pub magic: [u8; 16],
    /// One of the `VIEW_` constants.
    pub view: u32,
    /// One of the `LENDS_` constants.
    pub lends: u32,
    /// 1: a context that is made is measured at once, by a [`LOOK`].
    pub measures: u32,
    /// Where the holder listens, up to the first NUL.
    pub socket: [u8; PATH],
}

/// The holder's memory cannot be borrowed.
pub const LENDS_NEVER: u32 = 0;
/// It can, where others are faster to take what is freed for the job.
pub const LENDS_AT_NEED: u32 = 1;
/// It is borrowed before the driver is asked.
pub const LENDS_FIRST: u32 = 2;

/// The driver's word.
pub const VIEW_RAW: u32 = 0;
/// Free memory includes the balloon.
pub const VIEW_SHARED: u32 = 1;
/// Total memory is the reservation.
pub const VIEW_CAPPED: u32 = 2;

/// Memory shared by the holder and every process of the job that said hello. All zero at first.
#[repr(C)]
pub struct Page {
    /// Changes, and is woken as a futex, when there is news for the holder.
    pub bell: AtomicU32,
    /// How often something took memory that only NVML can tell the size of: a context, a module, a graph.
    pub unsized_news: AtomicU32,
    pub gpus: [Gpu; MAX_GPUS],
    pub slots: [Slot; MAX_SLOTS],
}

/// News of one GPU, over all processes.
#[repr(C, align(64))]
pub struct Gpu {
    /// Bytes by which the job has grown since the holder last looked; negative where it shrank.
    pub unread: AtomicI64,
    /// The highest `unread` since then.
    pub highest: AtomicI64,
    /// What `unread` was when somebody rang for it.
    pub rung: AtomicI64,
    /// How much more `unread` than at the last ring is worth a wake-up. Set by the holder.
    pub step: AtomicI64,
    /// The same for less: on a full GPU others are waiting for what the job frees.
    pub step_back: AtomicI64,
}

/// What one process of the job holds, by GPU. Only that process writes it, and the holder when the process has ended.
#[repr(C, align(64))]
pub struct Slot {
    pub used: [AtomicI64; MAX_GPUS],
    /// A bit by GPU: whether the process has made a context there, of which only NVML can tell the size.
    pub contexts: AtomicU64,
}

/// Asks for a slot; answered with a [`Welcome`], which carries the page's descriptor.
pub const HELLO: u32 = 1;
/// The driver refused `size` bytes or, if [`Request::is_guess`], about as many; 0 is about a chunk. The connection is this
/// process's turn on the GPU: until it is closed, or the next request is overdue, nobody else is served there.
pub const NEED: u32 = 2;
/// Asks for the memory of a GPU as the holder knows it.
pub const VIEW: u32 = 3;
/// Answers `BEGINS`: this process is trying now, so what is freed from here on has a taker at once.
pub const READY: u32 = 4;
/// Asks to borrow at least `size` bytes of the balloon under the number `loan`, which this process has given to no other.
/// [`Answer::balloon`] says how many it got.
pub const LEND: u32 = 5;
/// Asks for the pieces of a loan from `place` on; answered with some [`Pieces`].
pub const REACH: u32 = 6;
/// Says that the process has let go of pieces of a loan, or never got them: of as many as `size` says, from `place` on. Not
/// answered.
pub const RETURN: u32 = 7;
/// As [`LEND`], for one piece of exactly `size` bytes.
pub const LEND_ONE: u32 = 8;
/// Asks for a look at NVML, which is answered once it is over.
pub const LOOK: u32 = 9;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    /// One of the constants above.
    pub kind: u32,
    /// 1: nobody knows the size.
    pub is_guess: u32,
    /// Bytes, but for a [`RETURN`].
    pub size: u64,
    pub gpu: Uuid,
    pub loan: u64,
    pub place: u32,
    pub padding: u32,
}

impl Request {
    /// What needs no more to be said.
    pub const fn new(kind: u32, gpu: Uuid) -> Self {
        Self { kind, is_guess: 0, size: 0, gpu, loan: 0, place: 0, padding: 0 }
    }
}

/// To `REACH`: `count` pieces of `size` bytes each, whose descriptors come along. None: the driver refuses, or there is no
/// such loan.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Pieces {
    pub count: u32,
    pub padding: u32,
    pub size: u64,
}

/// How many descriptors come along at most. The kernel takes 253 (unix(7)), but while some are being mapped the next are got
/// ready.
pub const MOST_PIECES: usize = 16;

/// To `HELLO`. The GPUs are numbered by their place in `uuids`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Welcome {
    /// `u32::MAX`: no slot is left.
    pub slot: u32,
    pub count: u32,
    pub uuids: [Uuid; MAX_GPUS],
}

/// To `NEED`, `VIEW`, `LEND`, `LEND_ONE` and `LOOK`. Sizes are in bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Answer {
    /// 1: to `NEED`, that trying again may help; else, that it is done and the numbers below are right. 0: it is not. To
    /// `NEED` also [`PATIENT`] or [`BEGINS`].
    pub yes: u32,
    pub padding: u32,
    pub free: u64,
    pub total: u64,
    pub balloon: u64,
    pub job: u64,
    pub reservation: u64,
}

/// To `NEED`: there is nothing to report yet but that the holder is alive; the answer is still to come.
pub const PATIENT: u32 = 2;
/// To `NEED`: the turn begins. Way is given once the process is `READY`; the answer is still to come.
pub const BEGINS: u32 = 3;

/// Types that go over the socket as they lie in memory.
///
/// # Safety
/// Every pattern of bits is a value, and there is no padding.
pub unsafe trait Packet: Copy {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the value's own bytes, all of which are initialised because there is no padding.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// `None` for a packet of another length.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        // SAFETY: as many bytes as the value has, and any are a value.
        (bytes.len() == size_of::<Self>()).then(|| unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }
}

// SAFETY: integers and arrays of them, without a gap.
unsafe impl Packet for Config {}
// SAFETY: as above.
unsafe impl Packet for Request {}
// SAFETY: as above.
unsafe impl Packet for Welcome {}
// SAFETY: integers; `padding` fills the only gap.
unsafe impl Packet for Answer {}
// SAFETY: as above.
unsafe impl Packet for Pieces {}
