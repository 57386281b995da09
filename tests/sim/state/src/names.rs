//! Functions by name, numbered in the shared table as they are first met.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::layout::MAX_FUNCTIONS;
use crate::map::State;

/// A function of a library; knows its number once it was called.
pub struct Function {
    name: &'static str,
    /// The number and one; 0: not asked yet.
    number: AtomicU32,
}

impl Function {
    pub const fn new(name: &'static str) -> Self {
        Self { name, number: AtomicU32::new(0) }
    }

    pub(crate) fn number(&self, state: &State) -> u32 {
        match self.number.load(Relaxed) {
            0 => {
                let number = state.number_of(self.name);
                self.number.store(number + 1, Relaxed);
                number
            }
            known => known - 1,
        }
    }
}

impl State {
    pub(crate) fn number_if_known(&self, name: &str) -> Option<u32> {
        let used = self.names_used.load(Acquire);
        (0..used).find(|number| self.names[*number as usize].get() == name)
    }

    pub(crate) fn number_of(&self, name: &str) -> u32 {
        if let Some(number) = self.number_if_known(name) {
            return number;
        }
        let _guard = self.registry.lock(|| ());
        self.number_if_known(name).unwrap_or_else(|| {
            let number = self.names_used.load(Relaxed);
            assert!((number as usize) < MAX_FUNCTIONS, "the simulated driver's table of functions is full");
            self.names[number as usize].set(name);
            self.names_used.store(number + 1, Release);
            number
        })
    }
}
