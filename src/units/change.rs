//! What `resize` asks for: a new size, or a difference to the size held now.

use std::fmt;

use super::{Amount, ByteSize, Memory, SpecError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    To(Amount),
    Grow(Amount),
    Shrink(Amount),
}

impl Change {
    /// The new target size in bytes. A difference counts from what the balloon holds; a share in it is of what
    /// the driver reports as free, without the balloon: `+50%` takes half of what is left.
    ///
    /// # Errors
    /// As [`Amount::resolve`]; also a balloon that would pass the GPU's total, or that would end up empty.
    pub fn resolve(
        &self,
        memory: &Memory,
        utilization: Option<u32>,
        granularity: ByteSize,
    ) -> Result<ByteSize, SpecError> {
        let beside = Memory { held: ByteSize::ZERO, ..*memory };
        match self {
            Self::To(amount) => amount.resolve(memory, utilization, granularity),
            Self::Grow(amount) => {
                let more = amount.resolve(&beside, utilization, granularity)?;
                memory.held.checked_add(more).filter(|size| *size <= memory.total).ok_or_else(|| {
                    SpecError::MoreThanTotal {
                        value: self.to_string(),
                        total: memory.total,
                        nearest: format!("+{}MB", memory.total.saturating_sub(memory.held).mb()),
                    }
                })
            }
            Self::Shrink(amount) => {
                let less = amount.resolve(&beside, utilization, granularity);
                // A difference above the GPU's total is above what is held too: one answer for both.
                less.ok().and_then(|less| memory.held.checked_sub(less)).filter(|size| !size.is_zero()).ok_or_else(
                    || SpecError::MoreThanHeld {
                        value: self.to_string(),
                        held: memory.held,
                        nearest: "gpu-balloon release".to_owned(),
                    },
                )
            }
        }
    }
}

impl Change {
    /// As [`Amount::is_of_free`].
    pub fn is_of_free(&self) -> bool {
        matches!(self, Self::To(amount) | Self::Grow(amount) if amount.is_of_free())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(amount) => amount.fmt(f),
            Self::Grow(amount) => write!(f, "+{amount}"),
            Self::Shrink(amount) => write!(f, "-{amount}"),
        }
    }
}
