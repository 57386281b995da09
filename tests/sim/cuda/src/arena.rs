//! This process's allocations on one GPU: addresses, pages, and the small ones that share a page.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gpu_sim_state::GRANULARITY;

use crate::backing;

/// From this size on an allocation has pages of its own.
const OWN_PAGES: u64 = 1 << 20;
/// The alignment of small allocations.
const SMALL_STEP: u64 = 512;

/// Where no program's own memory is. Each GPU has 4 TiB of addresses from here on.
pub(crate) const FIRST_ADDRESS: u64 = 1 << 44;
pub(crate) const ADDRESSES_PER_GPU: u64 = 1 << 42;
/// As many addresses as this many GPUs have can be reserved without memory, behind those of all GPUs. Programs lie behind them.
pub(crate) const RESERVED: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Linear,
    Managed,
    /// Of the memory pool with this handle.
    Pool(usize),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocation {
    pub address: u64,
    /// As asked for.
    pub size: u64,
    /// The context that it dies with.
    pub context: usize,
    pub kind: Kind,
}

/// Hands out addresses that no two live things share.
pub(crate) struct Addresses {
    next: u64,
    freed: HashMap<u64, Vec<u64>>,
}

impl Addresses {
    pub fn from(start: u64) -> Self {
        Self { next: start, freed: HashMap::new() }
    }

    /// `size` is a multiple of the granularity.
    pub fn take(&mut self, size: u64) -> u64 {
        self.freed.get_mut(&size).and_then(Vec::pop).unwrap_or_else(|| {
            let address = self.next;
            self.next += size;
            address
        })
    }

    /// As `take`, at a multiple of `alignment`.
    pub fn take_aligned(&mut self, size: u64, alignment: u64) -> u64 {
        self.next = self.next.next_multiple_of(alignment);
        let address = self.next;
        self.next += size;
        address
    }

    pub fn give(&mut self, address: u64, size: u64) {
        self.freed.entry(size).or_default().push(address);
    }
}

pub(crate) struct Arena {
    addresses: Addresses,
    pub allocations: BTreeMap<u64, Allocation>,
    small: HashMap<usize, SmallHeap>,
}

/// What an allocation needs of the GPU: nothing if it fits a page that is there.
pub(crate) enum Room {
    There,
    Pages(u64),
}

impl Arena {
    pub fn new(gpu: usize) -> Self {
        let start = FIRST_ADDRESS + gpu as u64 * ADDRESSES_PER_GPU;
        Self { addresses: Addresses::from(start), allocations: BTreeMap::new(), small: HashMap::new() }
    }

    /// The GPU whose addresses these are.
    pub fn gpu_of(address: u64) -> Option<usize> {
        Some((address.checked_sub(FIRST_ADDRESS)? / ADDRESSES_PER_GPU) as usize)
    }

    /// The pages that must be taken from the GPU before [`Self::place`].
    pub fn room_for(&self, size: u64, context: usize) -> Room {
        if size >= OWN_PAGES {
            return Room::Pages(size.next_multiple_of(GRANULARITY));
        }
        match self.small.get(&context).is_some_and(|heap| heap.has(small(size))) {
            true => Room::There,
            false => Room::Pages(GRANULARITY),
        }
    }

    pub fn place(&mut self, size: u64, context: usize, kind: Kind) -> u64 {
        let address = if size >= OWN_PAGES {
            self.addresses.take(size.next_multiple_of(GRANULARITY))
        } else {
            let heap = self.small.entry(context).or_default();
            heap.take(small(size)).unwrap_or_else(|| {
                heap.add_page(self.addresses.take(GRANULARITY));
                heap.take(small(size)).unwrap_or_default()
            })
        };
        self.allocations.insert(address, Allocation { address, size, context, kind });
        address
    }

    /// Ends the allocation that begins at `address`; with it come the bytes of whole pages that became free.
    pub fn remove(&mut self, address: u64) -> Option<(Allocation, u64)> {
        let allocation = self.allocations.remove(&address)?;
        let freed = if allocation.size >= OWN_PAGES {
            Some((address, allocation.size.next_multiple_of(GRANULARITY)))
        } else {
            let heap = self.small.get_mut(&allocation.context)?;
            heap.give(address, small(allocation.size)).map(|page| (page, GRANULARITY))
        };
        let Some((start, size)) = freed else { return Some((allocation, 0)) };
        self.addresses.give(start, size);
        backing::forget(start, size);
        Some((allocation, size))
    }

    /// The allocation that contains `address`.
    pub fn around(&self, address: u64) -> Option<Allocation> {
        let (_, allocation) = self.allocations.range(..=address).next_back()?;
        (address < allocation.address + allocation.size).then_some(*allocation)
    }

    /// Ends all that belongs to a context; gives the bytes that became free.
    pub fn remove_context(&mut self, context: usize) -> u64 {
        let owned = self.allocations.values().filter(|allocation| allocation.context == context);
        let addresses: Vec<u64> = owned.map(|allocation| allocation.address).collect();
        let freed = addresses.into_iter().filter_map(|address| self.remove(address)).map(|(_, freed)| freed).sum();
        self.small.remove(&context);
        freed
    }
}

fn small(size: u64) -> u64 {
    size.next_multiple_of(SMALL_STEP)
}

/// The free parts of a context's shared pages.
#[derive(Default)]
struct SmallHeap {
    by_address: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
}

impl SmallHeap {
    fn has(&self, size: u64) -> bool {
        self.by_size.range((size, 0)..).next().is_some()
    }

    /// The smallest part that is large enough, of these the lowest.
    fn take(&mut self, size: u64) -> Option<u64> {
        let &(found, address) = self.by_size.range((size, 0)..).next()?;
        self.cut(address, found);
        if found > size {
            self.put(address + size, found - size);
        }
        Some(address)
    }

    fn add_page(&mut self, page: u64) {
        self.put(page, GRANULARITY);
    }

    /// Gives a part back, and the page if nothing of it is in use any more.
    fn give(&mut self, address: u64, size: u64) -> Option<u64> {
        let page = address / GRANULARITY * GRANULARITY;
        let (mut start, mut end) = (address, address + size);
        if let Some((&before, &length)) = self.by_address.range(page..start).next_back()
            && before + length == start
        {
            self.cut(before, length);
            start = before;
        }
        if end < page + GRANULARITY
            && let Some(&length) = self.by_address.get(&end)
        {
            self.cut(end, length);
            end += length;
        }
        if end - start == GRANULARITY {
            return Some(start);
        }
        self.put(start, end - start);
        None
    }

    fn put(&mut self, address: u64, size: u64) {
        self.by_address.insert(address, size);
        self.by_size.insert((size, address));
    }

    fn cut(&mut self, address: u64, size: u64) {
        self.by_address.remove(&address);
        self.by_size.remove(&(size, address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: usize = 1;

    fn pages(arena: &Arena, size: u64) -> u64 {
        match arena.room_for(size, CONTEXT) {
            Room::There => 0,
            Room::Pages(bytes) => bytes,
        }
    }

    #[test]
    fn a_page_of_small_allocations_is_given_back_with_the_last_of_them() {
        let mut arena = Arena::new(0);
        assert_eq!(pages(&arena, 1), GRANULARITY);
        let first = arena.place(1, CONTEXT, Kind::Linear);
        assert_eq!(pages(&arena, 1000), 0);
        let second = arena.place(1000, CONTEXT, Kind::Linear);
        assert_eq!(second, first + SMALL_STEP);
        assert_eq!(arena.remove(first).map(|(_, freed)| freed), Some(0));
        assert_eq!(arena.place(512, CONTEXT, Kind::Linear), first);
        assert_eq!(arena.remove(second).map(|(_, freed)| freed), Some(0));
        assert_eq!(arena.remove(first).map(|(_, freed)| freed), Some(GRANULARITY));
        assert!(arena.remove(first).is_none());
    }

    #[test]
    fn a_full_page_makes_a_new_one_necessary() {
        let mut arena = Arena::new(0);
        let size = OWN_PAGES - SMALL_STEP;
        let (one, other) = (arena.place(size, CONTEXT, Kind::Linear), arena.place(size, CONTEXT, Kind::Linear));
        assert_eq!(one / GRANULARITY, other / GRANULARITY);
        assert_eq!(pages(&arena, 4 * SMALL_STEP), GRANULARITY);
        assert_eq!(pages(&arena, SMALL_STEP), 0);
    }

    #[test]
    fn addresses_inside_belong_to_the_allocation() {
        let mut arena = Arena::new(3);
        let address = arena.place(3 << 20, CONTEXT, Kind::Managed);
        assert_eq!(Arena::gpu_of(address), Some(3));
        assert_eq!(arena.around(address + (3 << 20) - 1).map(|found| found.address), Some(address));
        assert!(arena.around(address + (3 << 20)).is_none());
        assert_eq!(arena.remove_context(CONTEXT), 4 << 20);
        assert!(arena.around(address).is_none());
    }
}
