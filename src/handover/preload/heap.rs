//! Addresses for memory that comes in pieces of any size: what is mapped of them, and what of that is allocated. An allocation
//! may lie across several pieces; a piece of which nothing is allocated any more can go.
//!
//! Knows addresses and sizes alone: what is mapped there, and how, is others' business.

use super::list::List;

/// A range of the heap's addresses. Ranges follow each other without a gap and are never alike to their neighbours but for
/// those in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub address: u64,
    pub size: u64,
    pub content: Content,
}

/// What is at a range's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Nothing is mapped there.
    Hole,
    /// Mapped, and not allocated.
    Spare,
    /// Allocated.
    Used(Use),
}

/// Whose an allocation is, and how large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Use {
    pub context: u64,
    /// Bytes that were asked for, of what may be a little more.
    pub asked: u64,
}

/// What is mapped as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    pub address: u64,
    pub size: u64,
    /// The loan that it is of, and its place in that.
    pub loan: u64,
    pub place: u32,
}

/// All zero is a heap without addresses.
#[repr(C)]
pub struct Heap {
    ranges: List<Range>,
    /// In the order of their addresses.
    pieces: List<Piece>,
}

/// A change of the heap adds no more ranges than this.
const MOST_NEW_RANGES: usize = 4;

impl Heap {
    /// Whether there are addresses yet.
    pub fn is_open(&self) -> bool {
        !self.ranges.items().is_empty()
    }

    /// Takes addresses, nothing of which is mapped.
    pub fn open(&mut self, address: u64, size: u64) {
        self.ranges.insert(0, Range { address, size, content: Content::Hole });
    }

    pub fn pieces(&self) -> &[Piece] {
        self.pieces.items()
    }

    #[cfg(test)]
    pub fn ranges(&self) -> &[Range] {
        self.ranges.items()
    }

    /// Allocates `size` bytes of what is mapped, where they fit best.
    pub fn allocate(&mut self, size: u64, of: Use) -> Option<u64> {
        let fits = |(_, range): &(usize, &Range)| range.content == Content::Spare && range.size >= size;
        let (at, range) = self.ranges.items().iter().enumerate().filter(fits).min_by_key(|(_, range)| range.size)?;
        let address = range.address;
        self.ranges.reserve(MOST_NEW_RANGES).then(|| {
            self.set(at, address, size, Content::Used(of));
            address
        })
    }

    /// Where pieces are best mapped so that `size` bytes can be allocated, and how much of them must be there: in the largest
    /// hole, so that a job that frees what it has had longest finds addresses for ever. What is spare before the hole is used,
    /// too.
    pub fn place_for(&self, size: u64) -> Option<(u64, u64)> {
        let ranges = self.ranges.items();
        let holes = ranges.iter().enumerate().filter(|(_, range)| range.content == Content::Hole);
        let (hole, _) = holes.max_by_key(|(_, range)| range.size)?;
        let before = hole.checked_sub(1).and_then(|before| ranges.get(before));
        let spare = before.filter(|range| range.content == Content::Spare).map_or(0, |range| range.size);
        Some((ranges.get(hole)?.address, size.saturating_sub(spare)))
    }

    /// How many bytes from an address on are not mapped.
    pub fn hole_at(&self, address: u64) -> u64 {
        let hole = self.ranges.items().iter().find(|range| range.address == address && range.content == Content::Hole);
        hole.map_or(0, |range| range.size)
    }

    /// Sees to it that so many pieces can be added.
    pub fn reserve(&mut self, pieces: usize) -> bool {
        self.pieces.reserve(pieces) && self.ranges.reserve(MOST_NEW_RANGES)
    }

    /// A piece has been mapped at the beginning of a hole.
    pub fn add(&mut self, piece: Piece) {
        let Some(at) = self.at(piece.address) else { return };
        let after = self.pieces.items().partition_point(|other| other.address < piece.address);
        self.pieces.insert(after, piece);
        self.set(at, piece.address, piece.size, Content::Spare);
    }

    /// What is allocated at exactly this address.
    pub fn used(&self, address: u64) -> Option<Range> {
        self.around(address).filter(|range| range.address == address)
    }

    /// What is allocated around this address.
    pub fn around(&self, address: u64) -> Option<Range> {
        let range = self.ranges.items().get(self.at(address)?)?;
        matches!(range.content, Content::Used(_)).then_some(*range)
    }

    /// Something that was allocated in a context.
    pub fn used_in(&self, context: u64) -> Option<Range> {
        let is_there = |range: &&Range| matches!(range.content, Content::Used(of) if of.context == context);
        self.ranges.items().iter().find(is_there).copied()
    }

    /// What was allocated at this address is spare. Says whether there was something, and memory to note that.
    pub fn free(&mut self, address: u64) -> bool {
        let Some((range, at)) = self.used(address).zip(self.at(address)) else { return false };
        let has_room = self.ranges.reserve(MOST_NEW_RANGES);
        if has_room {
            self.set(at, range.address, range.size, Content::Spare);
        }
        has_room
    }

    /// Takes out a piece of which nothing is allocated; there is a hole in its place.
    pub fn take_idle(&mut self) -> Option<Piece> {
        if !self.ranges.reserve(MOST_NEW_RANGES) {
            return None;
        }
        let piece = self.pieces.remove(self.idle()?)?;
        self.set(self.at(piece.address)?, piece.address, piece.size, Content::Hole);
        Some(piece)
    }

    fn idle(&self) -> Option<usize> {
        let is_idle = |piece: &Piece| {
            let range = self.at(piece.address).and_then(|at| self.ranges.items().get(at));
            range.is_some_and(|range| {
                range.content == Content::Spare && piece.address + piece.size <= range.address + range.size
            })
        };
        self.pieces.items().iter().position(is_idle)
    }

    /// The range that contains an address.
    fn at(&self, address: u64) -> Option<usize> {
        let ranges = self.ranges.items();
        let at = ranges.partition_point(|range| range.address <= address).checked_sub(1)?;
        let range = ranges.get(at)?;
        (address - range.address < range.size).then_some(at)
    }

    /// Gives a part of the range at `at` another content, and joins it with neighbours of the same.
    fn set(&mut self, at: usize, address: u64, size: u64, content: Content) {
        let Some(whole) = self.ranges.remove(at) else { return };
        let before = Range { size: address - whole.address, ..whole };
        let after = Range { address: address + size, size: whole.size - before.size - size, ..whole };
        let mut at = at;
        for range in [before, Range { address, size, content }, after] {
            if range.size > 0 {
                self.ranges.insert(at, range);
                at += 1;
            }
        }
        self.join(address);
        self.join(address + size);
    }

    /// Joins the range that begins at an address with the one before it, if they are alike and not in use.
    fn join(&mut self, address: u64) {
        let Some(at) = self.at(address).filter(|at| *at > 0) else { return };
        let ranges = self.ranges.items_mut();
        let (Some(&before), Some(&range)) = (ranges.get(at - 1), ranges.get(at)) else { return };
        if range.address == address && before.content == range.content && !matches!(range.content, Content::Used(_)) {
            ranges[at - 1].size += range.size;
            self.ranges.remove(at);
        }
    }
}
