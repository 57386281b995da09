//! gpu-balloon: reserve GPU memory, hold it, hand it over.

#[allow(dead_code, unused_imports)] // Until the commands use it.
mod gpu {
    mod select;
    mod uuid;
    mod visible;

    pub use select::{GpuSelector, SelectError, Selection};
    pub use uuid::GpuUuid;
    pub use visible::{Cut, Kind, Known, Spelling, Visibility, Visible, VisibleDevices};
}
#[allow(dead_code)] // Until the commands use it.
mod units;

fn main() {}
