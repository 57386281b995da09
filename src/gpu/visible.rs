//! Which GPUs CUDA shows to this process and in which order. Pure: devices and the variable come in as values.
//!
//! `CUDA_VISIBLE_DEVICES` is read as the driver reads it, where NVIDIA's guide is silent as seen on two H200:
//! numbers as `strtol` takes them (` 1`, `+1`, `1x`), an invalid entry or one of another kind than the first
//! ends the list, and a GPU named twice before that hides all of them.

use std::fmt;

use super::GpuUuid;

pub const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// A device of this machine, whether CUDA shows it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub uuid: GpuUuid,
    /// As NVML or CUDA writes it; both spellings are understood.
    pub pci_bus_id: String,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gpu,
    /// A MIG instance. It has no index of its own: only its UUID makes it visible.
    Instance,
}

/// The value of `CUDA_VISIBLE_DEVICES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VisibleDevices {
    Unset,
    Listed(String),
}

/// A device that CUDA shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    /// CUDA's ordinal under `CUDA_DEVICE_ORDER=PCI_BUS_ID`: what `--gpu` and the ready line call it.
    pub ordinal: u32,
    pub known: Known,
    pub spelling: Spelling,
}

/// How the caller names a device, and so how it is named to the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// Its index among all GPUs of the machine in PCI order, nvidia-smi's.
    Index(u32),
    Uuid,
}

/// What CUDA shows of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    pub variable: VisibleDevices,
    pub gpus: Vec<Visible>,
    pub hidden: Vec<Known>,
    /// Why the list in the variable did not count to its end.
    pub cut: Option<Cut>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The entry is no device of this machine; what comes before it counts.
    Invalid(String),
    /// The entry names a device for the second time; CUDA then refuses to start.
    Twice(String),
}

impl VisibleDevices {
    /// `value` as the environment has it, `None` if the variable is not set.
    pub fn new(value: Option<&str>) -> Self {
        value.map_or(Self::Unset, |value| Self::Listed(value.to_owned()))
    }

    pub fn is_set(&self) -> bool {
        matches!(self, Self::Listed(_))
    }

    /// What CUDA will show of `all`, the devices of this machine in PCI order.
    pub fn apply(self, all: &[Known]) -> Visibility {
        let gpus = || all.iter().filter(|known| known.kind == Kind::Gpu);
        let mut cut = None;
        let mut shown: Vec<(Spelling, &Known)> = Vec::new();
        match &self {
            Self::Unset => shown.extend((0..).map(Spelling::Index).zip(gpus())),
            Self::Listed(list) => {
                for (entry, parsed) in entries(list) {
                    let found = match parsed {
                        Entry::Index(index) => gpus().nth(index as usize).map(|known| (Spelling::Index(index), known)),
                        Entry::Uuid(prefix) => prefix.only_match(all).map(|known| (Spelling::Uuid, known)),
                        Entry::Invalid => None,
                    };
                    let Some(found) = found else {
                        cut = Some(Cut::Invalid(entry.to_owned()));
                        break;
                    };
                    if shown.iter().any(|(_, known)| known.uuid == found.1.uuid) {
                        cut = Some(Cut::Twice(entry.to_owned()));
                        shown.clear();
                        break;
                    }
                    shown.push(found);
                }
            }
        }
        let hidden = all.iter().filter(|known| !shown.iter().any(|(_, shown)| shown.uuid == known.uuid));
        let hidden = hidden.cloned().collect();
        let numbered = (0..).zip(shown);
        let gpus =
            numbered.map(|(ordinal, (spelling, known))| Visible { ordinal, known: known.clone(), spelling }).collect();
        Visibility { variable: self, gpus, hidden, cut }
    }

    /// The same where only CUDA's own list of visible devices is known, because there is no NVML.
    pub fn enumerated(self, cuda: &[Known]) -> Visibility {
        let numbered = (0..).zip(cuda);
        let spellings: Vec<Spelling> = match &self {
            Self::Unset => numbered.clone().map(|(ordinal, _)| Spelling::Index(ordinal)).collect(),
            Self::Listed(list) => entries(list)
                .map_while(|(_, entry)| match entry {
                    Entry::Index(index) => Some(Spelling::Index(index)),
                    Entry::Uuid(_) => Some(Spelling::Uuid),
                    Entry::Invalid => None,
                })
                .collect(),
        };
        let spellings = spellings.into_iter().chain(std::iter::repeat(Spelling::Uuid));
        let gpus = numbered
            .zip(spellings)
            .map(|((ordinal, known), spelling)| Visible { ordinal, known: known.clone(), spelling })
            .collect();
        Visibility { variable: self, gpus, hidden: Vec::new(), cut: None }
    }
}

enum Entry {
    Index(u32),
    Uuid(UuidPrefix),
    Invalid,
}

/// Each entry as written and as read. The first one decides for all whether these are numbers or UUIDs.
fn entries(list: &str) -> impl Iterator<Item = (&str, Entry)> {
    let uuids = starts_as_uuid(list);
    list.split(',').map(move |entry| {
        let parsed = match uuids {
            true => UuidPrefix::as_cuda_reads(entry).map(Entry::Uuid),
            false => index_as_cuda_reads(entry).map(Entry::Index),
        };
        (entry, parsed.unwrap_or(Entry::Invalid))
    })
}

fn starts_as_uuid(text: &str) -> bool {
    text.starts_with("GPU-") || text.starts_with("MIG-")
}

/// White space, a sign, digits; the rest is not looked at.
fn index_as_cuda_reads(entry: &str) -> Option<u32> {
    let entry = entry.trim_start();
    let (negative, entry) = match entry.strip_prefix('-') {
        Some(entry) => (true, entry),
        None => (false, entry.strip_prefix('+').unwrap_or(entry)),
    };
    let end = entry.find(|c: char| !c.is_ascii_digit()).unwrap_or(entry.len());
    let index = entry[..end].parse().ok()?;
    (!negative || index == 0).then_some(index)
}

/// The first digits of a UUID, perhaps all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UuidPrefix(String);

impl UuidPrefix {
    const DIGITS: usize = 32;

    /// From what a person wrote: `GPU-` or `MIG-` in any case, then digits and dashes only.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let digits: String = text[starts_as_uuid(&text).then_some(4)?..].chars().filter(|c| *c != '-').collect();
        let valid = (1..=Self::DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        valid.then(|| Self(digits.to_ascii_lowercase()))
    }

    /// As the driver does: what follows the last digit of a whole UUID is not looked at.
    fn as_cuda_reads(entry: &str) -> Option<Self> {
        let digits = starts_as_uuid(entry).then(|| entry[4..].bytes().filter(|byte| *byte != b'-'))?;
        let digits: Vec<u8> = digits.take(Self::DIGITS).collect();
        let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
        valid.then(|| Self(digits.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect()))
    }

    pub(super) fn matches(&self, uuid: GpuUuid) -> bool {
        format!("{:032x}", u128::from_be_bytes(uuid.0)).starts_with(&self.0)
    }

    fn only_match<'a>(&self, all: &'a [Known]) -> Option<&'a Known> {
        let mut matching = all.iter().filter(|known| self.matches(known.uuid));
        matching.next().filter(|_| matching.next().is_none())
    }
}

impl Known {
    /// Its UUID as nvidia-smi writes it: `GPU-...` or `MIG-...`.
    pub fn id(&self) -> String {
        let uuid = self.uuid.to_string();
        match self.kind {
            Kind::Gpu => uuid,
            Kind::Instance => uuid.replacen("GPU", "MIG", 1),
        }
    }
}

impl Visible {
    /// The value of `CUDA_VISIBLE_DEVICES` under which a job sees exactly `chosen`, in this order: indices where
    /// the caller used indices for all of them, else UUIDs, because CUDA takes no list of both.
    pub fn variable(chosen: &[Self]) -> String {
        let indices: Option<Vec<String>> = chosen
            .iter()
            .map(|gpu| match gpu.spelling {
                Spelling::Index(index) => Some(index.to_string()),
                Spelling::Uuid => None,
            })
            .collect();
        indices.unwrap_or_else(|| chosen.iter().map(|gpu| gpu.known.id()).collect()).join(",")
    }
}

/// For errors: `0,1 (CUDA_VISIBLE_DEVICES=2,3)`.
impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ordinals: Vec<String> = self.gpus.iter().map(|gpu| gpu.ordinal.to_string()).collect();
        f.write_str(&ordinals.join(","))?;
        match &self.variable {
            VisibleDevices::Unset => Ok(()),
            VisibleDevices::Listed(list) => write!(f, " ({VARIABLE}={list})"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
