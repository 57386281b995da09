//! Where a balloon's chunks come from: the driver's two ways to hold memory, behind the one that the policy knows.

use std::cell::Cell;
use std::os::fd::OwnedFd;

use crate::balloon::{self, Space};
use crate::gpu::{CallError, Chunk, Context, Contextless, Handle, Memory, Sharing};
use crate::units::ByteSize;

/// A context, and memory for which NVML names this process.
pub struct InContext {
    context: Context,
    /// How to create memory that can be lent; [`Sharing::Never`] where none is to be, or the driver shares none.
    sharing: Cell<Sharing>,
}

impl InContext {
    pub fn new(context: Context, is_lendable: bool) -> Self {
        let sharing = if is_lendable { context.device().sharing() } else { Sharing::Never };
        Self { context, sharing: Cell::new(sharing) }
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
        let sharing = self.sharing.get();
        if sharing != Sharing::Never {
            match self.context.device().create(size, sharing) {
                Ok(handle) => return Ok(Piece::Created(handle)),
                Err(error) if error.error.is_out_of_memory() => return Err(error),
                Err(error) => {
                    tracing::info!(%error, ?sharing, "the driver shares no such memory");
                    self.sharing.set(sharing.lesser());
                    return self.allocate(size);
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
