//! What can be wrong with a size, a share or a list of them.

use super::ByteSize;

/// Each message names the value as written and the nearest spelling that would have worked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("the size is empty; write for example `2GB`, `50%` or `all`")]
    Empty,

    #[error("`{list}` has an empty item; write `{nearest}`")]
    EmptyItem { list: String, nearest: String },

    #[error("`{value}` is not a size; write `{nearest}`")]
    NotASize { value: String, nearest: String },

    #[error("`{value}` is a number without a unit; write `{value}GB` or `{value}%`")]
    NoUnit { value: String },

    #[error("`{value}` is nothing; write `{nearest}`")]
    Zero { value: String, nearest: String },

    #[error("`{value}` is negative; write `{nearest}`")]
    Negative { value: String, nearest: String },

    #[error("`{value}` is more than everything; write `{nearest}`")]
    AboveWhole { value: String, nearest: String },

    #[error("`{value}` is larger than any GPU; write `all` for everything that is free")]
    TooLarge { value: String },

    #[error("`{value}` depends on the GPU, here a size is needed; write `{nearest}`")]
    NotBytes { value: String, nearest: String },

    #[error("`{value}` does not say by how much to change; write `{nearest}`")]
    NotAChange { value: String, nearest: String },

    #[error("`{value}` is more than the GPU's {total} in total; write `all` or at most `{nearest}`")]
    MoreThanTotal { value: String, total: ByteSize, nearest: String },

    #[error("`{value}` leaves nothing to hold: {free} of the GPU's {total} are free")]
    NothingFree { value: String, free: ByteSize, total: ByteSize },

    #[error("`{value}` would take everything from a balloon of {held}; write `{nearest}`")]
    MoreThanHeld { value: String, held: ByteSize, nearest: String },

    #[error(
        "`{list}` has {items} sizes for {gpus} GPU{}; write one for all or `{nearest}`",
        if *gpus == 1 { "" } else { "s" }
    )]
    WrongLength { list: String, items: usize, gpus: usize, nearest: String },

    #[error("`{list}` names only some of its GPUs; write `GPU=SIZE` for each or for none")]
    MixedList { list: String },

    #[error("`{key}` in `{list}` is none of the chosen GPUs ({chosen}); write `{nearest}`")]
    UnknownGpu { list: String, key: String, chosen: String, nearest: String },

    #[error("`{key}` in `{list}` fits more than one of the chosen GPUs; write one of {chosen}")]
    AmbiguousGpu { list: String, key: String, chosen: String },

    #[error("`{list}` has no size for GPU {gpu}; write `{nearest}`")]
    MissingGpu { list: String, gpu: String, nearest: String },

    #[error("`{list}` has two sizes for GPU {gpu}; keep one of `{first}` and `{second}`")]
    GpuTwice { list: String, gpu: String, first: String, second: String },
}

impl SpecError {
    /// Whether waiting may cure it: the spelling is right and only the memory is not there now.
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::NothingFree { .. })
    }
}
