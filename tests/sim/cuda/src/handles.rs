//! Streams, events, modules and other things that a caller knows by a handle only.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Mutex;
use std::time::Instant;

use crate::abi::Result;
use crate::driver::{Driver, lock};
use crate::errors::CudaError;

#[derive(Debug, Clone)]
pub(crate) enum Thing {
    Stream {
        flags: u32,
        priority: i32,
        context: usize,
        /// While it is captured: the local memory that the launches need.
        captured: Option<u64>,
    },
    Event {
        recorded: Option<Instant>,
    },
    /// Loaded code, with the device memory that it lies in and the local memory that its functions need.
    Module {
        code: u64,
        local: u64,
    },
    Function {
        module: usize,
        name: String,
    },
    Array {
        memory: u64,
        descriptor: [usize; 6],
    },
    Link,
    /// With the local memory that its launches need.
    Graph {
        local: u64,
    },
    Node,
}

#[derive(Default)]
pub(crate) struct Handles(Mutex<HashMap<usize, Thing>>);

pub(crate) type Handle = *mut c_void;

impl Handles {
    pub fn add(&self, driver: &Driver, thing: Thing) -> Handle {
        let handle = driver.new_handle();
        lock(&self.0).insert(handle, thing);
        std::ptr::without_provenance_mut(handle)
    }

    pub fn get(&self, handle: Handle) -> Result<Thing> {
        lock(&self.0).get(&handle.addr()).cloned().ok_or(CudaError::INVALID_HANDLE)
    }

    pub fn remove(&self, handle: Handle, is_it: impl FnOnce(&Thing) -> bool) -> Result<Thing> {
        let mut things = lock(&self.0);
        things.get(&handle.addr()).filter(|thing| is_it(thing)).ok_or(CudaError::INVALID_HANDLE)?;
        things.remove(&handle.addr()).ok_or(CudaError::INVALID_HANDLE)
    }

    /// Changes all things.
    pub fn change_all(&self, mut change: impl FnMut(Handle, &mut Thing)) {
        lock(&self.0).iter_mut().for_each(|(handle, thing)| change(std::ptr::without_provenance_mut(*handle), thing));
    }

    /// Changes a thing where it is.
    pub fn change<T>(&self, handle: Handle, change: impl FnOnce(&mut Thing) -> Option<T>) -> Result<T> {
        lock(&self.0).get_mut(&handle.addr()).and_then(change).ok_or(CudaError::INVALID_HANDLE)
    }
}
