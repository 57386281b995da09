//! The following beside a thief, on a GPU of numbers: what others get is counted to the byte, whatever their luck.

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::balloon::{Chunk, Step};
use crate::gpu::{CudaError, GpuUuid, Memory};
use crate::holder::bench::Ties;
use crate::holder::gauge::Gauge;
use crate::holder::reports::channel;

const MB: u64 = 1 << 20;
const RESERVATION: u64 = 6000;
const CHUNK: u64 = 100;
const HEADROOM: u64 = 64;

fn mb(megabytes: u64) -> ByteSize {
    ByteSize::new(megabytes * MB)
}

/// A GPU with so much free memory, and a thief there.
#[derive(Clone, Default)]
struct Gpu {
    free: Rc<Cell<u64>>,
    stolen: Rc<Cell<u64>>,
    /// The thief has what is freed before anyone else can try.
    is_quick: Rc<Cell<bool>>,
}

impl Gpu {
    /// The thief takes all that is free.
    fn steal(&self) {
        self.stolen.set(self.stolen.get() + self.free.replace(0));
    }

    fn give(&self, megabytes: u64) {
        self.free.set(self.free.get() + megabytes * MB);
        if self.is_quick.get() {
            self.steal();
        }
    }
}

struct Piece {
    size: ByteSize,
    gpu: Gpu,
}

impl Space for Gpu {
    type Chunk = Piece;

    fn allocate(&self, size: ByteSize) -> Result<Piece, CallError> {
        let out_of_memory = || CallError { call: "cuMemAlloc", error: CudaError::out_of_memory() };
        self.free.set(self.free.get().checked_sub(size.bytes()).ok_or_else(out_of_memory)?);
        Ok(Piece { size, gpu: self.clone() })
    }

    fn memory(&self) -> Result<Memory, CallError> {
        Ok(Memory { free: ByteSize::new(self.free.get()), total: mb(1 << 20) })
    }
}

impl Chunk for Piece {
    fn size(&self) -> ByteSize {
        self.size
    }

    fn release(self) -> Result<(), CallError> {
        Ok(())
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.gpu.give(self.size.mb());
    }
}

/// Follows a job on a GPU that the balloon has filled.
fn with_a_full_gpu(test: impl FnOnce(&Gpu, &mut Bench<'_, Gpu>)) {
    let gpu = Gpu { free: Rc::new(Cell::new(RESERVATION * MB)), ..Gpu::default() };
    let (reports, _inbox) = channel().unwrap();
    let (_orders, orders) = std::sync::mpsc::channel();
    let gauge = Gauge::default();
    let ties = Ties { index: 0, uuid: GpuUuid([0; 16]), orders: &orders, reports: &reports, gauge: &gauge };
    let mut bench = Bench::new(&ties, gpu.clone());
    bench.reservation = mb(RESERVATION);
    bench.balloon.set_chunk_size(mb(CHUNK));
    bench.balloon.set_target(bench.reservation);
    while bench.balloon.inflate_step().unwrap() == Step::Grew {}
    test(&gpu, &mut bench);
}

impl Bench<'_, Gpu> {
    /// The job holds this much, which takes effect in full.
    fn the_job_holds(&mut self, megabytes: u64) {
        self.follow_job(JobUse { holds: mb(megabytes), headroom: mb(HEADROOM) });
        self.catch_up_wholly();
    }

    fn catch_up_wholly(&mut self) {
        while matches!(self.task, Task::Follow { .. }) {
            self.catch_up();
        }
    }

    /// Whether there was way to give.
    fn gives_way(&mut self, need: Need) -> bool {
        let (tell, told) = std::sync::mpsc::channel();
        self.give_way(need, Box::new(move |yielded| tell.send(yielded == Some(Yielded::Room)).unwrap()));
        told.recv().unwrap()
    }
}

#[test]
fn what_others_get_of_one_turn_is_bounded_by_the_byte() {
    for (need, least_tries, bound) in [
        (Need::Bytes(mb(50)), 4, 17 * 50),
        (Need::Bytes(mb(64)), 4, 17 * 64),
        (Need::Bytes(mb(250)), 4, 17 * 250),
        (Need::Bytes(mb(2)), 4, LOST_CHUNKS * CHUNK),
        (Need::About(mb(592)), 2, 2 * (592 + CHUNK)),
        (Need::About(mb(64)), 4, LOST_CHUNKS * CHUNK),
    ] {
        with_a_full_gpu(|gpu, bench| {
            gpu.is_quick.set(true);
            let mut tries = 0;
            while bench.gives_way(need) {
                tries += 1;
            }
            let stolen = gpu.stolen.get() / MB;
            assert!(stolen <= bound, "{need:?}, {stolen} MB stolen");
            assert!(tries >= least_tries && stolen >= bound / 2, "{need:?}, given up after {tries} tries");
            // The next turn starts afresh.
            bench.settle(JobUse::default());
            assert!(bench.gives_way(need));
        });
    }
}

#[test]
fn a_race_lost_costs_what_was_needed_where_the_rest_of_the_chunk_is_taken_back() {
    with_a_full_gpu(|gpu, bench| {
        for race in 1..=LOST_TIMES {
            assert!(bench.gives_way(Need::Bytes(mb(50))), "race {race}");
            gpu.steal();
        }
        assert!(!bench.gives_way(Need::Bytes(mb(50))));
        assert_eq!(gpu.stolen.get(), LOST_TIMES * 50 * MB);
    });
}

#[test]
fn an_idle_job_loses_the_headroom_once() {
    with_a_full_gpu(|gpu, bench| {
        gpu.is_quick.set(true);
        for _audit in 0..100 {
            bench.the_job_holds(0);
        }
        // A whole chunk, because there is no room to split one.
        assert!(gpu.stolen.get() <= CHUNK * MB, "{} MB", gpu.stolen.get() / MB);
    });
}

#[test]
fn headroom_that_others_take_again_and_again_is_not_given_for_ever() {
    for size in [30, 200, 1000] {
        with_a_full_gpu(|gpu, bench| {
            bench.the_job_holds(0);
            for _ in 0..100 {
                assert!(bench.gives_way(Need::Bytes(mb(size))));
                // The job is faster with what it needs, and the balloon with what the job frees; all else is the thief's.
                gpu.free.set(gpu.free.get() - size * MB);
                bench.settle(JobUse { holds: mb(size), headroom: mb(HEADROOM) });
                bench.catch_up_wholly();
                gpu.steal();
                gpu.give(size);
                bench.the_job_holds(0);
                gpu.steal();
            }
            // The first time it is freed, with the rest of the chunk.
            let most = HEADROOMS * HEADROOM + CHUNK;
            assert!(gpu.stolen.get() <= most * MB, "{size}: {} MB", gpu.stolen.get() / MB);
            // The thief leaves, which two looks tell.
            gpu.give(1000);
            bench.the_job_holds(0);
            bench.the_job_holds(0);
            assert_eq!(bench.balloon.allocated(), mb(RESERVATION));
            assert_eq!(bench.following.lost, ByteSize::ZERO);
        });
    }
}

#[test]
fn headroom_is_always_there_where_nobody_takes_it() {
    with_a_full_gpu(|gpu, bench| {
        bench.the_job_holds(0);
        for _ in 0..10 {
            assert_eq!(gpu.free.get(), HEADROOM * MB);
            assert!(bench.gives_way(Need::Bytes(mb(1000))));
            gpu.free.set(gpu.free.get() - 1000 * MB);
            bench.settle(JobUse { holds: mb(1000), headroom: mb(HEADROOM) });
            bench.catch_up_wholly();
            assert_eq!(gpu.free.get(), HEADROOM * MB);
            gpu.give(1000);
            bench.the_job_holds(0);
            assert_eq!(bench.balloon.allocated(), mb(RESERVATION - HEADROOM));
        }
    });
}
