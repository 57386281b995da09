//! What this process has allocated, by address or handle: a free tells no size. A hash table with open addressing, in
//! memory of its own that grows by doubling and that a forked child finds empty.

use super::system;

/// One entry. `key` 0 is no entry.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Entry {
    /// The address or handle; several kinds of things may have the same.
    pub key: u64,
    pub size: u64,
    /// What it belongs to: a context or, for handles and mappings, the number of the physical memory.
    pub owner: u64,
    pub kind: Kind,
    /// Which GPU of the reservation.
    pub gpu: u8,
    /// Of physical memory: open handles, and mappings.
    pub handles: u16,
    pub mappings: u32,
}

#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From `cuMemAlloc` and its like.
    Memory = 0,
    Array = 1,
    /// From `cuMemCreate`, under a number of ours.
    Physical = 2,
    /// A handle of physical memory.
    Handle = 3,
    /// From `cuMemMap`.
    Mapping = 4,
    /// From `cuMemAlloc`, in memory of the balloon.
    Borrowed = 5,
    /// The loan that such memory is of, under its address.
    Loan = 6,
}

/// All zero is the empty table.
#[repr(C)]
pub struct Table {
    entries: *mut Entry,
    /// A power of two, or 0.
    capacity: usize,
    count: usize,
    numbers: u64,
}

// SAFETY: the table owns its memory.
unsafe impl Send for Table {}

const FIRST_CAPACITY: usize = 1024;

impl Table {
    /// Says whether there was room; without memory for the table an allocation goes uncounted.
    pub fn insert(&mut self, entry: Entry) -> bool {
        if 4 * (self.count + 1) > 3 * self.capacity && !self.grow() {
            return false;
        }
        self.place(entry);
        self.count += 1;
        true
    }

    /// A number not given before, and not 0.
    pub fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn get(&mut self, kind: Kind, key: u64) -> Option<&mut Entry> {
        let at = self.find(kind, key)?;
        self.entries().get_mut(at)
    }

    pub fn remove(&mut self, kind: Kind, key: u64) -> Option<Entry> {
        let at = self.find(kind, key)?;
        Some(self.remove_at(at))
    }

    /// Removes everything that belongs to `owner` and is `kind`, and shows it to `each`.
    pub fn remove_owned(&mut self, kind: Kind, owner: u64, mut each: impl FnMut(&Entry)) {
        let mut at = 0;
        while at < self.capacity {
            let entry = self.entries()[at];
            if entry.key != 0 && entry.kind == kind && entry.owner == owner {
                each(&self.remove_at(at));
                // What was moved into this place wants to be looked at as well.
            } else {
                at += 1;
            }
        }
    }

    /// Something of this kind that belongs to `owner`.
    pub fn find_owned(&mut self, kind: Kind, owner: u64) -> Option<Entry> {
        let is_owned = |entry: &&Entry| entry.key != 0 && entry.kind == kind && entry.owner == owner;
        self.entries().iter().find(is_owned).copied()
    }

    /// The thing of this kind that lies around an address. Looks at every entry.
    pub fn around(&mut self, kind: Kind, address: u64) -> Option<Entry> {
        let contains = |entry: &&Entry| {
            entry.key != 0 && entry.kind == kind && entry.key <= address && address - entry.key < entry.size
        };
        self.entries().iter().find(contains).copied()
    }

    /// Shows everything of this kind to `each`.
    pub fn each(&mut self, kind: Kind, each: impl FnMut(&Entry)) {
        self.entries().iter().filter(|entry| entry.key != 0 && entry.kind == kind).for_each(each);
    }

    fn entries(&mut self) -> &mut [Entry] {
        match self.capacity {
            0 => &mut [],
            // SAFETY: `grow` mapped this many zeroed entries, which nobody else reaches.
            capacity => unsafe { core::slice::from_raw_parts_mut(self.entries, capacity) },
        }
    }

    fn home(&self, key: u64) -> usize {
        // Neighbours in memory stay neighbours here, as one allocation after the other touches the same pages; but those
        // that lie whole pages of the GPU apart do not meet in one place. Handles are small numbers.
        ((key & 511) + (key >> 9) + (key >> 21)) as usize & (self.capacity - 1)
    }

    /// How far an entry at `at` is from its home.
    fn distance(&self, key: u64, at: usize) -> usize {
        at.wrapping_sub(self.home(key)) & (self.capacity - 1)
    }

    fn find(&mut self, kind: Kind, key: u64) -> Option<usize> {
        if self.capacity == 0 || key == 0 {
            return None;
        }
        let mask = self.capacity - 1;
        let mut at = self.home(key);
        let mut distance = 0;
        loop {
            let entry = self.entries()[at];
            if entry.key == key && entry.kind == kind {
                return Some(at);
            }
            // Past entries that are nearer to their homes ours would have taken their place.
            if entry.key == 0 || self.distance(entry.key, at) < distance {
                return None;
            }
            at = (at + 1) & mask;
            distance += 1;
        }
    }

    /// Puts an entry into the first place whose owner is nearer to its home, and goes on with that one. So entries lie in the
    /// order of their homes.
    fn place(&mut self, mut entry: Entry) {
        let mask = self.capacity - 1;
        let mut at = self.home(entry.key);
        let mut distance = 0;
        loop {
            let there = self.entries()[at];
            if there.key == 0 {
                self.entries()[at] = entry;
                return;
            }
            let its_distance = self.distance(there.key, at);
            if its_distance < distance {
                self.entries()[at] = entry;
                (entry, distance) = (there, its_distance);
            }
            at = (at + 1) & mask;
            distance += 1;
        }
    }

    /// Takes an entry out, and moves those behind it that are not at home one place up.
    fn remove_at(&mut self, at: usize) -> Entry {
        let removed = self.entries()[at];
        let mask = self.capacity - 1;
        let mut hole = at;
        loop {
            let next = (hole + 1) & mask;
            let entry = self.entries()[next];
            if entry.key == 0 || self.distance(entry.key, next) == 0 {
                break;
            }
            self.entries()[hole] = entry;
            hole = next;
        }
        self.entries()[hole].key = 0;
        self.count -= 1;
        removed
    }

    fn grow(&mut self) -> bool {
        let capacity = (self.capacity * 2).max(FIRST_CAPACITY);
        let Some(memory) = system::map_wiped_on_fork(capacity * size_of::<Entry>()) else { return false };
        let mut old = Self { entries: self.entries, capacity: self.capacity, count: 0, numbers: 0 };
        (self.entries, self.capacity) = (memory.cast(), capacity);
        for at in 0..old.capacity {
            let entry = old.entries()[at];
            if entry.key != 0 {
                self.place(entry);
            }
        }
        if old.capacity != 0 {
            system::unmap(old.entries.cast(), old.capacity * size_of::<Entry>());
        }
        true
    }
}
