//! Where a balloon's chunks come from: the driver's two ways to hold memory, behind the one that the policy knows.

use std::cell::Cell;
use std::os::fd::OwnedFd;

use crate::balloon::{self, Space};
use crate::gpu::{CallError, Chunk, Context, Contextless, Handle, Memory, Sharing};
use crate::units::ByteSize;

/// A context, and memory for which NVML names this process.
pub struct InContext {
    context: Context,
    /// Whether the memory is to be lent, as long as the driver can share it.
    is_lendable: Cell<bool>,
}

impl InContext {
    pub fn new(context: Context, is_lendable: bool) -> Self {
        Self { context, is_lendable: Cell::new(is_lendable) }
    }
}

/// A chunk that belongs to a context, or beside one.
pub enum Piece {
    Allocated(Chunk),
    Created(Handle),
}

impl Space for InContext {
    type Chunk = Piece;

    fn allocate(&self, size: ByteSize) -> Result<Piece, CallError> {
        if self.is_lendable.get() {
            match self.context.device().create(size, Sharing::ByDescriptor) {
                Ok(handle) => return Ok(Piece::Created(handle)),
                Err(error) if error.error.is_out_of_memory() => return Err(error),
                Err(error) => {
                    tracing::info!(%error, "the driver shares no memory: nothing can be lent");
                    self.is_lendable.set(false);
                }
            }
        }
        self.context.allocate(size).map(Piece::Allocated)
    }

    fn memory(&self) -> Result<Memory, CallError> {
        self.context.memory()
    }
}

impl balloon::Chunk for Piece {
    fn size(&self) -> ByteSize {
        match self {
            Self::Allocated(chunk) => chunk.size(),
            Self::Created(handle) => handle.size(),
        }
    }

    fn release(self) -> Result<(), CallError> {
        match self {
            Self::Allocated(chunk) => chunk.release(),
            Self::Created(handle) => handle.release(),
        }
    }

    fn export(&self) -> Option<Result<OwnedFd, CallError>> {
        match self {
            Self::Allocated(_) => None,
            Self::Created(handle) => Some(handle.export()),
        }
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
