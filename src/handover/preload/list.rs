//! A list in memory of its own that grows by doubling and that a forked child finds empty.

use super::system;

/// All zero is the empty list.
#[repr(C)]
pub struct List<T> {
    items: *mut T,
    capacity: usize,
    length: usize,
}

// SAFETY: the list owns its memory.
unsafe impl<T: Send> Send for List<T> {}

const FIRST_CAPACITY: usize = 128;

impl<T: Copy> List<T> {
    pub fn items(&self) -> &[T] {
        match self.length {
            0 => &[],
            // SAFETY: `reserve` mapped at least this many, and `insert` filled them.
            length => unsafe { core::slice::from_raw_parts(self.items, length) },
        }
    }

    pub fn items_mut(&mut self) -> &mut [T] {
        match self.length {
            0 => &mut [],
            // SAFETY: as above, and nobody else reaches them.
            length => unsafe { core::slice::from_raw_parts_mut(self.items, length) },
        }
    }

    /// Sees to it that so many more can be inserted. Says whether there is memory for them.
    pub fn reserve(&mut self, more: usize) -> bool {
        let wanted = self.length.saturating_add(more);
        if wanted <= self.capacity {
            return true;
        }
        let capacity = wanted.next_power_of_two().max(FIRST_CAPACITY);
        let Some(memory) = system::map_wiped_on_fork(capacity * size_of::<T>()) else { return false };
        let memory = memory.cast::<T>();
        // SAFETY: both are as long as that, and distinct.
        unsafe { core::ptr::copy_nonoverlapping(self.items().as_ptr(), memory, self.length) };
        if self.capacity != 0 {
            system::unmap(self.items.cast(), self.capacity * size_of::<T>());
        }
        (self.items, self.capacity) = (memory, capacity);
        true
    }

    /// Puts an item before the one at `at`, for which there is to be room, or at the end.
    pub fn insert(&mut self, at: usize, item: T) {
        let at = at.min(self.length);
        if !self.reserve(1) {
            return;
        }
        // SAFETY: there is room for one more, and `at` is within the list.
        unsafe {
            let place = self.items.add(at);
            core::ptr::copy(place, place.add(1), self.length - at);
            place.write(item);
        }
        self.length += 1;
    }

    pub fn remove(&mut self, at: usize) -> Option<T> {
        let item = self.items().get(at).copied()?;
        // SAFETY: `at` is within the list.
        unsafe {
            let place = self.items.add(at);
            core::ptr::copy(place.add(1), place, self.length - at - 1);
        }
        self.length -= 1;
        Some(item)
    }
}
