//! The ledger, with lanes that write down what they are told.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use crate::balloon::{Loan, Wanted};
use crate::gpu::GpuUuid;
use crate::handover::ledger::{Ledger, Reading};
use crate::handover::page::Shared;
use crate::handover::{JobUse, Lane, Need, Pieces, Reply, View, Yielded};
use crate::units::ByteSize;

const MB: u64 = 1 << 20;
const CHUNK: u64 = 100 * MB;
const RESERVATION: u64 = 1000 * MB;

/// What the lane was told, in order: what the job holds, in MB.
type Told = Arc<Mutex<Vec<u64>>>;

struct Recorder {
    gpu: GpuUuid,
    told: Told,
    is_full: Arc<AtomicBool>,
}

impl Lane for Recorder {
    fn gpu(&self) -> GpuUuid {
        self.gpu
    }

    fn held(&self) -> ByteSize {
        ByteSize::ZERO
    }

    fn reservation(&self) -> ByteSize {
        ByteSize::new(RESERVATION)
    }

    fn chunk_size(&self) -> ByteSize {
        ByteSize::new(CHUNK)
    }

    fn is_full(&self) -> bool {
        self.is_full.load(Relaxed)
    }

    fn follow(&self, job: JobUse) {
        self.told.lock().unwrap().push(job.holds.mb());
    }

    fn give_way(&self, _need: Need, _reply: Reply<Yielded>) {}

    fn settle(&self, job: JobUse) {
        self.follow(job);
    }

    fn lend(&self, _loan: Loan, _wanted: Wanted, _reply: Reply<ByteSize>) {}

    fn reach(&self, _loan: Loan, _from: usize, _reply: Reply<Pieces>) {}

    fn take_home(&self, _loan: Loan, _places: Range<usize>) {}

    fn take_home_all_of(&self, _pid: u32) {}

    fn most_lent(&self) -> ByteSize {
        ByteSize::ZERO
    }

    fn view(&self, _reply: Reply<View>) {}
}

struct Bench {
    shared: Arc<Shared>,
    ledger: Ledger,
    told: [Told; 2],
    is_full: Arc<AtomicBool>,
}

impl Bench {
    fn new() -> Self {
        let shared = Arc::new(Shared::new().unwrap());
        let told = [Told::default(), Told::default()];
        let is_full = Arc::<AtomicBool>::default();
        let lane = |number: usize| -> Box<dyn Lane> {
            let (told, is_full) = (Arc::clone(&told[number]), Arc::clone(&is_full));
            Box::new(Recorder { gpu: GpuUuid([number as u8; 16]), told, is_full })
        };
        let ledger = Ledger::new(Arc::clone(&shared), vec![lane(0), lane(1)]);
        Self { shared, ledger, told, is_full }
    }

    /// As the library counts.
    fn count(&self, slot: usize, gpu: usize, megabytes: i64) {
        let page = self.shared.page();
        let change = megabytes * MB.cast_signed();
        page.slots[slot].used[gpu].fetch_add(change, Relaxed);
        let unread = page.gpus[gpu].unread.fetch_add(change, Relaxed) + change;
        page.gpus[gpu].highest.fetch_max(unread, Relaxed);
    }

    fn told(&self, gpu: usize) -> Vec<u64> {
        std::mem::take(&mut *self.told[gpu].lock().unwrap())
    }
}

#[test]
fn the_lanes_are_told_sums_and_only_changes() {
    let mut bench = Bench::new();
    let (one, other) = (bench.ledger.admit(10).unwrap(), bench.ledger.admit(11).unwrap());
    assert_ne!(one, other);
    // Members need headroom, which is a change of its own.
    assert_eq!(bench.told(0), [0]);
    bench.count(one, 0, 300);
    bench.count(other, 0, 50);
    bench.count(other, 1, 7);
    bench.ledger.read();
    bench.ledger.read();
    assert_eq!((bench.told(0), bench.told(1)), (vec![350], vec![0, 7]));
    assert_eq!(bench.shared.page().gpus[0].step.load(Relaxed), CHUNK.cast_signed());
}

#[test]
fn on_a_full_gpu_a_little_less_is_news() {
    let mut bench = Bench::new();
    let steps = |bench: &mut Bench| {
        bench.ledger.read();
        let news = &bench.shared.page().gpus[0];
        [news.step.load(Relaxed), news.step_back.load(Relaxed)].map(|step| step / MB.cast_signed())
    };
    assert_eq!(steps(&mut bench), [100, 100]);
    bench.is_full.store(true, Relaxed);
    assert_eq!(steps(&mut bench), [100, 2]);
    bench.is_full.store(false, Relaxed);
    assert_eq!(steps(&mut bench), [100, 100]);
    bench.ledger.settle(0);
    assert_eq!(steps(&mut bench), [100, 2], "the driver has just refused the job, whatever the lane knows");
}

#[test]
fn who_has_ended_holds_nothing_and_leaves_its_slot() {
    let mut bench = Bench::new();
    let slot = bench.ledger.admit(10).unwrap();
    bench.count(slot, 0, 300);
    bench.ledger.audited(0, Reading { members: [(10, 500 * MB)].into(), ..Reading::default() });
    assert_eq!(bench.told(0).last(), Some(&800));
    bench.ledger.dismiss(10);
    assert_eq!(bench.told(0), [0]);
    assert_eq!(bench.ledger.admit(12), Some(slot));
}

#[test]
fn a_process_that_replaced_its_program_starts_at_nothing() {
    let mut bench = Bench::new();
    let slot = bench.ledger.admit(10).unwrap();
    bench.count(slot, 0, 300);
    bench.ledger.read();
    assert_eq!(bench.ledger.admit(10), Some(slot));
    assert_eq!(bench.told(0).last(), Some(&0));
}

#[test]
fn a_late_look_at_a_dead_process_is_left_out() {
    let mut bench = Bench::new();
    bench.ledger.admit(10).unwrap();
    bench.ledger.dismiss(10);
    bench.ledger.audited(0, Reading { members: [(10, 500 * MB)].into(), strangers: 20 * MB, ..Reading::default() });
    assert_eq!(bench.told(0).last(), Some(&20));
}

#[test]
fn a_peak_between_two_readings_is_not_missed() {
    let mut bench = Bench::new();
    let slot = bench.ledger.admit(10).unwrap();
    bench.count(slot, 0, 300);
    bench.ledger.read();
    bench.count(slot, 0, 400);
    bench.count(slot, 0, -600);
    let usage = bench.ledger.usage();
    assert_eq!((usage[0].peak, usage[0].handed_over), (700 * MB, 700 * MB));
    bench.count(slot, 0, 2000);
    let usage = bench.ledger.usage();
    assert_eq!((usage[0].peak, usage[0].handed_over), (2100 * MB, RESERVATION));
}

#[test]
fn a_count_below_zero_is_nothing() {
    let mut bench = Bench::new();
    let slot = bench.ledger.admit(10).unwrap();
    bench.count(slot, 0, -300);
    bench.ledger.read();
    assert!(bench.told(0).iter().all(|told| *told == 0));
}

#[test]
fn slots_run_out_without_harm() {
    let mut bench = Bench::new();
    let admitted = (1..=2000).filter(|pid| bench.ledger.admit(*pid).is_some()).count();
    assert_eq!(admitted, crate::handover::protocol::MAX_SLOTS);
}

/// The process has made a context, as the library notes.
fn make_context(bench: &Bench, slot: usize, gpu: usize) {
    bench.shared.page().slots[slot].contexts.fetch_or(1 << gpu, Relaxed);
}

#[test]
fn what_was_seen_once_counts_in_the_peak_of_a_process_that_has_ended() {
    let mut bench = Bench::new();
    let slot = bench.ledger.admit(10).unwrap();
    make_context(&bench, slot, 0);
    bench.count(slot, 0, 100);
    bench.ledger.audited(0, Reading { glimpsed: [(10, 300 * MB)].into(), ..Reading::default() });
    bench.ledger.dismiss(10);
    // Another one of which nothing is told takes as much, but not beside the first.
    let slot = bench.ledger.admit(11).unwrap();
    make_context(&bench, slot, 0);
    let usage = bench.ledger.usage();
    assert_eq!((usage[0].peak, usage[0].is_estimated), (400 * MB, false));
    assert_eq!((usage[1].peak, usage[1].is_estimated), (0, false));
}

#[test]
fn what_nobody_tells_of_is_estimated_for_each_process() {
    let mut bench = Bench::new();
    for pid in [10, 11] {
        let slot = bench.ledger.admit(pid).unwrap();
        make_context(&bench, slot, 1);
    }
    bench.ledger.dismiss(10);
    bench.ledger.dismiss(11);
    let usage = bench.ledger.usage();
    assert_eq!((usage[1].peak, usage[1].is_estimated), (2 * 528 * MB, true));
    assert_eq!((usage[0].peak, usage[0].is_estimated), (0, false));
}

#[test]
fn what_is_measured_is_not_estimated() {
    let mut bench = Bench::new();
    let slot = bench.ledger.admit(10).unwrap();
    make_context(&bench, slot, 0);
    let seen = || [(10, 200 * MB)].into();
    bench.ledger.audited(0, Reading { members: seen(), glimpsed: seen(), ..Reading::default() });
    bench.ledger.dismiss(10);
    let usage = bench.ledger.usage();
    assert_eq!((usage[0].peak, usage[0].is_estimated), (200 * MB, false));
}
