//! The policy against a GPU of numbers, with a competitor that takes whatever is free for an instant.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::gpu::CudaError;

const MB: u64 = 1 << 20;

fn mb(megabytes: u64) -> ByteSize {
    ByteSize::new(megabytes * MB)
}

/// A GPU with so much free memory, of which a thief takes all that a free leaves for an instant.
#[derive(Clone, Default)]
struct Gpu {
    free: Rc<Cell<u64>>,
    stolen: Rc<Cell<u64>>,
    has_thief: bool,
    broken: Rc<Cell<bool>>,
}

struct Piece {
    size: ByteSize,
    gpu: Gpu,
}

impl Space for Gpu {
    type Chunk = Piece;

    fn allocate(&self, size: ByteSize) -> Result<Piece, CallError> {
        if self.broken.get() {
            return Err(failure(CudaError::launch_failed()));
        }
        let free = self.free.get().checked_sub(size.bytes()).ok_or_else(|| failure(CudaError::out_of_memory()))?;
        self.free.set(free);
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
        match self.gpu.has_thief {
            true => self.gpu.stolen.set(self.gpu.stolen.get() + self.size.bytes()),
            false => self.gpu.free.set(self.gpu.free.get() + self.size.bytes()),
        }
    }
}

fn failure(error: CudaError) -> CallError {
    CallError { call: "cuMemAlloc", error }
}

fn gpu(free: u64) -> Gpu {
    Gpu { free: Rc::new(Cell::new(free * MB)), ..Gpu::default() }
}

/// A balloon inflated to `size` in chunks of `chunk`, in MB.
fn inflated(gpu: &Gpu, size: u64, chunk: u64) -> Balloon<Gpu> {
    let mut balloon = Balloon::new(gpu.clone());
    balloon.set_chunk_size(mb(chunk));
    balloon.set_target(mb(size));
    while balloon.inflate_step().unwrap() == Step::Grew {}
    balloon
}

#[test]
fn it_inflates_in_chunks_to_the_byte() {
    let gpu = gpu(1000);
    let balloon = inflated(&gpu, 250, 100);
    assert_eq!((balloon.allocated(), balloon.count()), (mb(250), 3));
    assert_eq!(gpu.free.get(), 750 * MB);
}

#[test]
fn a_chunk_that_does_not_fit_is_halved_down_to_the_granularity() {
    let gpu = gpu(107);
    let mut balloon = Balloon::new(gpu.clone());
    balloon.set_chunk_size(mb(100));
    balloon.set_target(mb(200));
    let last = loop {
        match balloon.inflate_step().unwrap() {
            Step::Grew => {}
            last => break last,
        }
    };
    assert_eq!((last, balloon.allocated()), (Step::Short(mb(94)), mb(106)));
}

#[test]
fn a_chunk_size_of_nothing_is_the_granularity() {
    let balloon = inflated(&gpu(10), 6, 0);
    assert_eq!((balloon.chunk_size(), balloon.count()), (GRANULARITY, 3));
}

#[test]
fn a_failure_other_than_out_of_memory_is_not_taken_for_it() {
    let gpu = gpu(100);
    let mut balloon = inflated(&gpu, 10, 2);
    gpu.broken.set(true);
    balloon.set_target(mb(20));
    assert!(balloon.inflate_step().is_err());
    assert_eq!(balloon.allocated(), mb(10));
}

#[test]
fn giving_way_frees_one_best_fit() {
    let gpu = gpu(1000);
    let mut balloon = inflated(&gpu, 8, 8);
    balloon.set_chunk_size(mb(32));
    balloon.set_target(mb(40));
    while balloon.inflate_step().unwrap() == Step::Grew {}
    assert_eq!(balloon.give_way(mb(4)).unwrap(), mb(8));
    assert_eq!(balloon.give_way(mb(64)).unwrap(), mb(32), "the largest where none is large enough");
    assert_eq!(balloon.give_way(mb(1)).unwrap(), ByteSize::ZERO);
}

#[test]
fn what_is_taken_back_comes_in_halves_as_far_as_it_fits() {
    for (free, least, pieces) in [
        (98, 2, &[50, 24, 12, 6, 4, 2][..]),
        (98, 20, &[50, 24, 20, 4]),
        (98, 60, &[60, 38]),
        (98, 100, &[98]),
        (60, 2, &[50]),
        (40, 2, &[]),
    ] {
        let gpu = gpu(free);
        let mut balloon = Balloon::new(gpu.clone());
        balloon.take_back_in_pieces(mb(98), mb(least)).unwrap();
        let sizes = balloon.chunks.iter().rev().flat_map(|(size, chunks)| chunks.iter().map(|_| size.bytes() / MB));
        assert_eq!(sizes.collect::<Vec<_>>(), pieces, "{free} free, at least {least}");
        assert_eq!(gpu.free.get(), (free - pieces.iter().sum::<u64>()) * MB);
    }
}

#[test]
fn dropping_it_frees_everything() {
    let gpu = gpu(100);
    drop(inflated(&gpu, 60, 7));
    assert_eq!(gpu.free.get(), 100 * MB);
}

proptest! {
    /// Shrinking never holds less than its target for an instant: a thief gets the difference and no byte more.
    #[test]
    fn what_is_kept_is_never_let_go(chunk in 1u64..60, size in 1u64..500, keep in 0u64..500, room in 0u64..200) {
        let (size, keep) = (size * 2, keep.min(size) * 2);
        let gpu = Gpu { has_thief: true, ..gpu(size + room) };
        let mut balloon = inflated(&gpu, size, chunk * 2);
        balloon.set_target(mb(keep));
        balloon.deflate().unwrap();
        let held = balloon.allocated();
        prop_assert!(held >= mb(keep));
        prop_assert!(held.saturating_sub(mb(keep)) < balloon.chunk_size());
        // Whatever was freed was more than the balloon has to keep.
        prop_assert_eq!(held.bytes() + gpu.stolen.get() + gpu.free.get(), (size + room) * MB);
        if room >= chunk * 2 {
            prop_assert_eq!(held, mb(keep), "there was room to split a chunk in");
        }
    }

    /// Without a thief a shrink is exact wherever whole chunks or free memory allow it, and growing back costs nothing.
    #[test]
    fn shrink_and_growth_come_to_the_target(chunk in 1u64..60, size in 1u64..500, keep in 0u64..500) {
        let (size, keep) = (size * 2, keep.min(size) * 2);
        let gpu = gpu(size + 120);
        let mut balloon = inflated(&gpu, size, chunk * 2);
        balloon.set_target(mb(keep));
        balloon.deflate().unwrap();
        prop_assert_eq!(balloon.allocated(), mb(keep));
        balloon.set_target(mb(size));
        while balloon.inflate_step().unwrap() == Step::Grew {}
        prop_assert_eq!(balloon.allocated(), mb(size));
        prop_assert_eq!(gpu.free.get(), 120 * MB);
    }
}

#[test]
fn a_loan_is_made_of_chunks_that_fit_and_comes_home_piece_by_piece() {
    let gpu = Gpu { free: Rc::new(Cell::new(1000 * MB)), ..Gpu::default() };
    let mut balloon = Balloon::new(gpu.clone());
    for (size, count) in [(100, 2), (20, 3), (2, 5)] {
        for _ in 0..count {
            assert!(balloon.take_back(mb(size)).is_ok());
        }
    }
    let loan = |number| Loan { pid: 7, number };
    let sizes = |balloon: &Balloon<Gpu>, number, from| {
        balloon.borrowed(loan(number), from).map(|chunk| chunk.size().mb()).collect::<Vec<_>>()
    };
    assert_eq!(balloon.lend(loan(1), Wanted::AtLeast(mb(126))), mb(126));
    assert_eq!(sizes(&balloon, 1, 0), [100, 20, 2, 2, 2]);
    assert_eq!(sizes(&balloon, 1, 3), [2, 2]);
    assert_eq!((balloon.allocated(), balloon.lent(), balloon.most_lent()), (mb(144), mb(126), mb(126)));
    assert_eq!(balloon.lend(loan(1), Wanted::AtLeast(mb(2))), ByteSize::ZERO, "the number is taken");
    // Only two small ones are left.
    assert_eq!(balloon.lend(loan(2), Wanted::AtLeast(mb(46))), mb(144));
    assert_eq!(sizes(&balloon, 2, 0), [20, 20, 2, 2, 100]);
    assert_eq!(balloon.lend(loan(3), Wanted::AtLeast(mb(5))), ByteSize::ZERO, "more than there is");
    balloon.take_home(loan(1), 0..1);
    balloon.take_home(loan(1), 0..1);
    assert_eq!((balloon.allocated(), balloon.lent(), balloon.most_lent()), (mb(100), mb(170), mb(270)));
    assert_eq!(sizes(&balloon, 1, 0), [20, 2, 2, 2]);
    assert_eq!(balloon.lend(Loan { pid: 8, number: 1 }, Wanted::AtLeast(mb(2))), mb(100));
    balloon.take_home_all_of(7);
    assert_eq!((balloon.allocated(), balloon.lent(), balloon.count()), (mb(170), mb(100), 9));
    assert_eq!(balloon.lend(loan(4), Wanted::One(mb(20))), mb(20));
    assert_eq!(gpu.free.get(), 730 * MB, "nothing was freed or allocated on the way");
    assert_eq!(balloon.lend(loan(5), Wanted::One(mb(40))), mb(40));
    assert_eq!((sizes(&balloon, 5, 0), gpu.free.get()), (vec![40], 730 * MB), "others were made into one");
}

#[test]
fn where_others_are_faster_a_chunk_is_not_made_of_others() {
    let gpu = Gpu { free: Rc::new(Cell::new(300 * MB)), has_thief: true, ..Gpu::default() };
    let mut balloon = inflated(&gpu, 300, 100);
    assert_eq!(balloon.lend(Loan { pid: 7, number: 1 }, Wanted::One(mb(64))), ByteSize::ZERO);
    assert_eq!((balloon.allocated(), gpu.stolen.get()), (mb(200), 100 * MB), "one race, and no more");
}

proptest! {
    #[test]
    fn loans_neither_make_nor_lose_memory(steps in proptest::collection::vec((0..6_u64, 1..200_u64, 0..4_usize), 1..60)) {
        let gpu = Gpu { free: Rc::new(Cell::new(2000 * MB)), ..Gpu::default() };
        let mut balloon = Balloon::new(gpu.clone());
        for size in [200, 100, 100, 50, 20, 20, 20, 2, 2, 2, 2, 2, 2, 2] {
            prop_assert!(balloon.take_back(mb(size)).is_ok());
        }
        let (total, free) = (balloon.allocated(), gpu.free.get());
        for (number, size, place) in steps {
            let loan = Loan { pid: (number % 2) as u32, number };
            if balloon.borrowed(loan, 0).next().is_none() {
                let lent = balloon.lend(loan, Wanted::AtLeast(mb(size)));
                prop_assert!(lent.is_zero() || lent >= mb(size));
                let pieces: u64 = balloon.borrowed(loan, 0).map(|chunk| chunk.size().mb()).sum();
                prop_assert_eq!(pieces, lent.mb());
            } else {
                balloon.take_home(loan, place..place + 2);
            }
            prop_assert_eq!(balloon.allocated().saturating_add(balloon.lent()), total);
            prop_assert_eq!(gpu.free.get(), free);
        }
        balloon.take_home_all_of(0);
        balloon.take_home_all_of(1);
        prop_assert_eq!((balloon.allocated(), balloon.count()), (total, 14));
    }
}
