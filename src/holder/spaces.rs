//! Where a balloon's chunks come from: the driver's two ways to hold memory, behind the one that the policy knows.

use std::os::fd::OwnedFd;

use crate::balloon::{self, Space};
use crate::gpu::{CallError, Chunk, Context, Contextless, Handle, Memory};
use crate::units::ByteSize;

impl Space for Context {
    type Chunk = Chunk;

    fn allocate(&self, size: ByteSize) -> Result<Chunk, CallError> {
        Context::allocate(self, size)
    }

    fn memory(&self) -> Result<Memory, CallError> {
        Context::memory(self)
    }
}

impl balloon::Chunk for Chunk {
    fn size(&self) -> ByteSize {
        Chunk::size(self)
    }

    fn release(self) -> Result<(), CallError> {
        Chunk::release(self)
    }
}

impl Space for Contextless {
    type Chunk = Handle;

    fn allocate(&self, size: ByteSize) -> Result<Handle, CallError> {
        Contextless::allocate(self, size)
    }

    fn memory(&self) -> Result<Memory, CallError> {
        Contextless::memory(self)
    }
}

impl balloon::Chunk for Handle {
    fn size(&self) -> ByteSize {
        Handle::size(self)
    }

    fn release(self) -> Result<(), CallError> {
        Handle::release(self)
    }

    fn export(&self) -> Option<Result<OwnedFd, CallError>> {
        Some(Handle::export(self))
    }
}
