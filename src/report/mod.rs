//! How GPUs and balloons are shown: one file a format. Plain values come in, text goes out; no device, socket or terminal
//! is asked here.

mod bar;
pub mod diagnosis;
pub mod json;
pub mod progress;
pub mod summary;
pub mod table;
mod text;

use std::time::SystemTime;

use crate::control::wire::State;
use crate::units::ByteSize;

/// What `status` found at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    pub gpus: Vec<Gpu>,
    pub balloons: Vec<Balloon>,
}

/// A GPU; what the driver does not tell is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// What `--gpu` calls it; `None` where `CUDA_VISIBLE_DEVICES` hides it.
    pub ordinal: Option<u32>,
    /// What nvidia-smi calls it.
    pub index: Option<u32>,
    /// As nvidia-smi writes it.
    pub uuid: String,
    pub pci_bus_id: Option<String>,
    pub name: Option<String>,
    pub memory: Option<GpuMemory>,
    pub utilization_percent: Option<u32>,
    pub compute_mode: Option<String>,
    /// All processes with memory on it but the holders of balloons.
    pub processes: Vec<Process>,
}

/// The memory of a GPU, and whose it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GpuMemory {
    pub total: ByteSize,
    pub used: ByteSize,
    pub free: ByteSize,
    pub own_balloons: ByteSize,
    /// What the holders of this user's balloons take beside them.
    pub overhead: ByteSize,
    pub foreign_balloons: ByteSize,
    /// With what they borrowed from a balloon.
    pub own_processes: ByteSize,
}

impl GpuMemory {
    /// What balloons hold, whoever owns them.
    pub fn balloons(&self) -> ByteSize {
        self.own_balloons.saturating_add(self.foreign_balloons)
    }

    /// What is used and neither this user's nor a balloon's. Part of it may belong to processes that the system hides.
    pub fn others(&self) -> ByteSize {
        let known = [self.own_balloons, self.overhead, self.foreign_balloons, self.own_processes];
        known.into_iter().fold(self.used, ByteSize::saturating_sub)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    pub pid: u32,
    pub user: Option<String>,
    pub command: Option<String>,
    pub used: Option<ByteSize>,
    pub is_own: bool,
}

/// A balloon; what its holder did not say is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Balloon {
    pub name: String,
    pub pid: Option<u32>,
    pub user: Option<String>,
    pub command: Option<String>,
    pub reason: Option<String>,
    pub state: Option<State>,
    pub place_in_line: Option<u32>,
    pub started_at: Option<SystemTime>,
    pub ends_at: Option<SystemTime>,
    pub log: Option<String>,
    pub parts: Vec<Part>,
    pub is_own: bool,
}

/// A balloon's part on one GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub ordinal: Option<u32>,
    pub uuid: String,
    pub is_inflated: Option<bool>,
    pub target: Option<ByteSize>,
    pub allocated: Option<ByteSize>,
    pub chunks: Option<u64>,
    pub chunk_size: Option<ByteSize>,
    pub overhead: Option<ByteSize>,
    pub handed_over: Option<ByteSize>,
    /// Which processes have borrowed how much of that from the balloon.
    pub borrowers: Vec<(u32, ByteSize)>,
    /// Of the GPU.
    pub free: Option<ByteSize>,
    /// Of the GPU.
    pub total: Option<ByteSize>,
}

/// What the receiver of a report can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The width of the terminal; `None` where there is none, and nothing is cut off.
    pub columns: Option<usize>,
    pub glyphs: Glyphs,
    pub colour: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyphs {
    Unicode,
    Ascii,
}

impl Glyphs {
    /// What the terminal of this process shows, as far as the environment tells.
    pub fn from_environment() -> Self {
        let value = |name| std::env::var(name).ok();
        Self::of(value("TERM").as_deref(), [value("LC_ALL"), value("LC_CTYPE"), value("LANG")])
    }

    /// The first locale that is set decides. Without any, in containers mostly, terminals understand UTF-8 all the same.
    fn of(terminal: Option<&str>, locales: [Option<String>; 3]) -> Self {
        let locale = locales.into_iter().flatten().find(|locale| !locale.is_empty());
        let is_utf8 = locale.is_none_or(|locale| locale.to_lowercase().replace('-', "").contains("utf8"));
        if is_utf8 && terminal != Some("dumb") { Self::Unicode } else { Self::Ascii }
    }
}

#[cfg(test)]
mod tests {
    use super::Glyphs::{self, Ascii, Unicode};

    #[test]
    fn glyphs_follow_the_locale() {
        let of = |terminal, all: &str, ctype: &str, lang: &str| {
            Glyphs::of(Some(terminal), [all, ctype, lang].map(|locale| Some(locale.to_owned())))
        };
        assert_eq!(of("xterm", "", "", "de_DE.UTF-8"), Unicode);
        assert_eq!(of("xterm", "", "", "C.utf8"), Unicode);
        assert_eq!(of("xterm", "C", "", "de_DE.UTF-8"), Ascii);
        assert_eq!(of("xterm", "", "de_DE.ISO-8859-1", "C.UTF-8"), Ascii);
        assert_eq!(of("xterm", "", "", ""), Unicode);
        assert_eq!(of("dumb", "", "", "C.UTF-8"), Ascii);
        assert_eq!(Glyphs::of(None, [None, None, None]), Unicode);
    }
}
