//! The heap of borrowed memory against a model: what is allocated lies in pieces that are there, and nowhere twice.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::heap::{Content, Heap, Piece, Use};

const BASE: u64 = 1 << 40;
const CONTEXT: u64 = 7;
const OF: Use = Use { context: CONTEXT, asked: 1 };

fn heap() -> Heap {
    // SAFETY: all zero is a heap without addresses.
    #[expect(unsafe_code, reason = "as the library's own memory is at first")]
    let mut heap: Heap = unsafe { std::mem::zeroed() };
    assert!(!heap.is_open());
    heap.open(BASE, 1 << 40);
    heap
}

/// Maps pieces of `unit` bytes for an allocation of `size`, as many as it takes.
fn grow(heap: &mut Heap, size: u64, unit: u64, loan: u64) -> usize {
    let (address, missing) = heap.place_for(size).unwrap();
    let count = missing.div_ceil(unit);
    assert!(heap.hole_at(address) >= count * unit);
    assert!(heap.reserve(count as usize));
    for place in 0..count {
        heap.add(Piece { address: address + place * unit, size: unit, loan, place: place as u32 });
    }
    count as usize
}

#[test]
fn what_is_freed_in_the_order_it_was_allocated_never_runs_out_of_addresses() {
    let (mut heap, unit) = (heap(), 3 << 34);
    let mut oldest = None;
    for loan in 1..200 {
        grow(&mut heap, unit, unit, loan);
        let address = heap.allocate(unit, OF).unwrap();
        if let Some(oldest) = oldest.replace(address) {
            assert!(heap.free(oldest));
            assert!(heap.take_idle().is_some());
        }
    }
}

#[track_caller]
fn check(heap: &Heap, model: &BTreeMap<u64, u64>) {
    let mut at = BASE;
    for range in heap.ranges() {
        assert_eq!(range.address, at, "no gap");
        at += range.size;
    }
    assert_eq!(at, BASE + (1 << 40));
    let used: BTreeMap<u64, u64> = heap
        .ranges()
        .iter()
        .filter(|range| matches!(range.content, Content::Used(_)))
        .map(|range| (range.address, range.size))
        .collect();
    assert_eq!(&used, model);
    let mapped: u64 = heap.pieces().iter().map(|piece| piece.size).sum();
    let hole: u64 = heap.ranges().iter().filter(|range| range.content == Content::Hole).map(|range| range.size).sum();
    assert_eq!(mapped + hole, 1 << 40);
    let alike =
        heap.ranges().windows(2).any(|pair| pair[0].content == pair[1].content && pair[0].content != Content::Used(OF));
    assert!(!alike, "neighbours are joined: {:?}", heap.ranges());
}

#[test]
fn what_is_spare_is_used_before_more_is_mapped() {
    let mut heap = heap();
    assert_eq!(heap.allocate(10, OF), None);
    assert_eq!(grow(&mut heap, 30, 100, 1), 1);
    let first = heap.allocate(30, OF).unwrap();
    let second = heap.allocate(60, OF).unwrap();
    assert_eq!((first, second), (BASE, BASE + 30));
    // Ten bytes are spare at the end, and the next pieces follow them.
    assert_eq!(heap.place_for(150), Some((BASE + 100, 140)));
    assert_eq!(grow(&mut heap, 150, 100, 2), 2);
    let third = heap.allocate(150, OF).unwrap();
    assert_eq!(third, BASE + 90);
    assert_eq!(heap.around(third + 149).unwrap().address, third);
    assert_eq!(heap.around(third + 150), None);
    assert_eq!(heap.used(third + 1), None);
    // Only the last piece has nothing of the others.
    heap.free(third);
    let idle: Vec<u32> = std::iter::from_fn(|| heap.take_idle()).map(|piece| piece.place).collect();
    assert_eq!(idle, [0, 1]);
    assert_eq!(heap.pieces().len(), 1);
    assert_eq!(heap.used_in(CONTEXT).unwrap().address, first);
    heap.free(first);
    assert_eq!(heap.take_idle(), None, "a part is in use");
    heap.free(second);
    assert_eq!(heap.take_idle().unwrap().loan, 1);
    check(&heap, &BTreeMap::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn allocations_never_overlap_and_idle_pieces_go(
        steps in proptest::collection::vec((1..300_u64, 1..5_u64, any::<bool>()), 1..300),
    ) {
        let mut heap = heap();
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        for (number, (size, unit, frees)) in steps.into_iter().enumerate() {
            let victim = model.keys().nth(size as usize % model.len().max(1)).copied();
            if let (true, Some(address)) = (frees, victim) {
                model.remove(&address);
                heap.free(address);
                heap.free(address);
            } else {
                let address = heap.allocate(size, OF).unwrap_or_else(|| {
                    grow(&mut heap, size, unit * 50, number as u64 + 1);
                    heap.allocate(size, OF).unwrap()
                });
                prop_assert!(model.insert(address, size).is_none());
            }
            while let Some(piece) = heap.take_idle() {
                let end = piece.address + piece.size;
                let touches = model.iter().any(|(address, size)| *address < end && address + size > piece.address);
                prop_assert!(!touches, "a piece in use was taken");
            }
            check(&heap, &model);
            for (address, size) in &model {
                prop_assert_eq!(heap.used(*address).unwrap().size, *size);
                prop_assert_eq!(heap.around(address + size - 1).unwrap().address, *address);
            }
        }
    }
}
