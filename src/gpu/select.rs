//! What `--gpu` takes, and which of the visible GPUs that is.

use std::str::FromStr;

use super::visible::{Cut, Known, Spelling, UuidPrefix, VARIABLE, Visibility, Visible, VisibleDevices};
use crate::units::NamedGpu;

/// One item of `--gpu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuSelector {
    /// As written, for errors.
    text: String,
    means: Means,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Means {
    Range { first: u32, last: u32 },
    All,
    Uuid(UuidPrefix),
    Pci(PciAddress),
    Any(usize),
}

/// Domain, bus, device and function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PciAddress(u32, u8, u8, u8);

/// What the selectors come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These, in the order of `--gpu`.
    These(Vec<Visible>),
    /// Any `count` of these: which ones, the memory decides.
    Any { count: usize, among: Vec<Visible> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error(
        "`{0}` is not a GPU; write an index, `0-3`, `all`, `GPU-` or `MIG-` and the start of a UUID, \
         a PCI bus id such as `65:00.0`, or `any:1`"
    )]
    NotAGpu(String),

    #[error("`{text}` is a range from high to low; write `{nearest}`")]
    Backwards { text: String, nearest: String },

    #[error("no GPU is visible: {0}")]
    NoneVisible(String),

    #[error("{} is not visible; visible are {visible}", within(*.index, .text))]
    NoSuchIndex { text: String, index: u32, visible: String },

    /// The trap of numbers within `CUDA_VISIBLE_DEVICES`.
    #[error(
        "{} is not visible; visible are {visible}; nvidia-smi's GPU {index} is `{here}` here",
        within(*.index, .text)
    )]
    MachineIndex { text: String, index: u32, visible: String, here: u32 },

    #[error("`{text}` is no GPU of this machine; visible are {visible}")]
    Unknown { text: String, visible: String },

    #[error("`{text}` is hidden; visible are {visible}")]
    Hidden { text: String, visible: String },

    #[error("`{text}` fits more than one GPU: {fitting}; write more of it")]
    Ambiguous { text: String, fitting: String },

    #[error("GPU {ordinal} is chosen twice, by `{first}` and by `{second}`; name it once")]
    Twice { ordinal: u32, first: String, second: String },

    #[error("`{text}` asks for more GPUs than are visible; visible are {visible}")]
    TooMany { text: String, visible: String },

    #[error("`{0}` chooses by itself; write it alone")]
    AnyWithOthers(String),
}

/// An index, and the longer text that it comes out of.
fn within(index: u32, text: &str) -> String {
    if text.parse() == Ok(index) { format!("GPU {index}") } else { format!("GPU {index} in `{text}`") }
}

impl FromStr for GpuSelector {
    type Err = SelectError;

    fn from_str(text: &str) -> Result<Self, SelectError> {
        let text = text.trim();
        let means = match text.to_ascii_lowercase().as_str() {
            "all" => Some(Means::All),
            lower => match lower.strip_prefix("any:") {
                Some(count) => number(count).filter(|count| *count > 0).map(|count| Means::Any(count as usize)),
                None => numbers(text)?.or_else(|| identity(text)),
            },
        };
        let means = means.ok_or_else(|| SelectError::NotAGpu(text.to_owned()))?;
        Ok(Self { text: text.to_owned(), means })
    }
}

/// An index or a range, `None` if the text is neither.
fn numbers(text: &str) -> Result<Option<Means>, SelectError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (Some(first), Some(last)) = (number(first.trim_end()), number(last.trim_start())) else {
        return Ok(None);
    };
    if first > last {
        return Err(SelectError::Backwards { text: text.to_owned(), nearest: format!("{last}-{first}") });
    }
    Ok(Some(Means::Range { first, last }))
}

fn identity(text: &str) -> Option<Means> {
    UuidPrefix::parse(text).map(Means::Uuid).or_else(|| PciAddress::parse(text).map(Means::Pci))
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl Means {
    fn identifies(&self, known: &Known) -> bool {
        match self {
            Self::Uuid(prefix) => prefix.matches(known.uuid),
            Self::Pci(address) => PciAddress::parse(&known.pci_bus_id) == Some(*address),
            Self::Range { .. } | Self::All | Self::Any(_) => false,
        }
    }
}

impl NamedGpu for Visible {
    fn answers_to(&self, key: &str) -> bool {
        key.parse::<GpuSelector>().is_ok_and(|key| match key.means {
            Means::Range { first, last } => first == last && first == self.ordinal,
            means => means.identifies(&self.known),
        })
    }

    fn shown(&self) -> String {
        self.ordinal.to_string()
    }
}

impl PciAddress {
    /// `65:00.0`, `0000:65:00.0` or, as nvidia-smi has it, `00000000:65:00.0`.
    fn parse(text: &str) -> Option<Self> {
        let (address, function) = text.split_once('.')?;
        let (rest, device) = address.rsplit_once(':')?;
        let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
        let byte = |text| hex(text).and_then(|value| u8::try_from(value).ok());
        Some(Self(hex(domain)?, byte(bus)?, byte(device)?, byte(function)?))
    }
}

fn hex(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())?
}

impl Visibility {
    /// The GPUs that `selectors` name. Without any: all of them where `CUDA_VISIBLE_DEVICES` is set, else GPU 0.
    ///
    /// # Errors
    /// A selector that names no visible GPU, or a GPU for the second time: sizes are given in the order of
    /// `--gpu`, so dropping the double would move them.
    pub fn select(&self, selectors: &[GpuSelector]) -> Result<Selection, SelectError> {
        let Some(first) = self.gpus.first() else {
            return Err(SelectError::NoneVisible(self.why_none()));
        };
        match selectors {
            [] if self.variable.is_set() => return Ok(Selection::These(self.gpus.clone())),
            [] => return Ok(Selection::These(vec![first.clone()])),
            [one] => {
                if let Means::Any(count) = one.means {
                    return match count <= self.gpus.len() {
                        true => Ok(Selection::Any { count, among: self.gpus.clone() }),
                        false => Err(SelectError::TooMany { text: one.text.clone(), visible: self.to_string() }),
                    };
                }
            }
            _ => {}
        }
        let mut chosen: Vec<(&GpuSelector, Visible)> = Vec::new();
        for selector in selectors {
            for gpu in self.named_by(selector)? {
                if let Some((earlier, _)) = chosen.iter().find(|(_, taken)| taken.ordinal == gpu.ordinal) {
                    return Err(SelectError::Twice {
                        ordinal: gpu.ordinal,
                        first: earlier.text.clone(),
                        second: selector.text.clone(),
                    });
                }
                chosen.push((selector, gpu));
            }
        }
        Ok(Selection::These(chosen.into_iter().map(|(_, gpu)| gpu).collect()))
    }

    fn named_by(&self, selector: &GpuSelector) -> Result<Vec<Visible>, SelectError> {
        match &selector.means {
            Means::All => Ok(self.gpus.clone()),
            Means::Any(_) => Err(SelectError::AnyWithOthers(selector.text.clone())),
            Means::Range { first, last } => {
                (*first..=*last).map(|index| self.numbered(index, &selector.text)).collect()
            }
            // By identity: the job gets the UUID too, whatever the variable used.
            Means::Uuid(_) => {
                self.identified(selector).map(|gpu| vec![Visible { spelling: Spelling::Uuid, ..gpu.clone() }])
            }
            Means::Pci(_) => self.identified(selector).map(|gpu| vec![gpu.clone()]),
        }
    }

    fn numbered(&self, index: u32, text: &str) -> Result<Visible, SelectError> {
        if let Some(gpu) = self.gpus.get(index as usize) {
            return Ok(gpu.clone());
        }
        let text = text.to_owned();
        let visible = self.to_string();
        Err(match self.gpus.iter().find(|gpu| gpu.spelling == Spelling::Index(index)) {
            Some(here) => SelectError::MachineIndex { text, index, visible, here: here.ordinal },
            None => SelectError::NoSuchIndex { text, index, visible },
        })
    }

    fn identified(&self, selector: &GpuSelector) -> Result<&Visible, SelectError> {
        let text = selector.text.clone();
        let fitting: Vec<&Visible> = self.gpus.iter().filter(|gpu| selector.means.identifies(&gpu.known)).collect();
        match fitting[..] {
            [gpu] => Ok(gpu),
            [] => {
                let hidden = self.hidden.iter().any(|known| selector.means.identifies(known));
                let visible = self.to_string();
                Err(match hidden {
                    true => SelectError::Hidden { text, visible },
                    false => SelectError::Unknown { text, visible },
                })
            }
            _ => {
                let fitting: Vec<String> = fitting.iter().map(|gpu| gpu.known.id()).collect();
                Err(SelectError::Ambiguous { text, fitting: fitting.join(", ") })
            }
        }
    }

    fn why_none(&self) -> String {
        match (&self.variable, &self.cut) {
            (VisibleDevices::Unset, _) => "this machine has none".to_owned(),
            (VisibleDevices::Listed(list), Some(Cut::Invalid(entry))) if !list.trim().is_empty() => {
                format!("`{entry}` in {VARIABLE}={list} is no GPU of this machine and ends the list")
            }
            (VisibleDevices::Listed(list), Some(Cut::Twice(entry))) => {
                format!("{VARIABLE}={list} names `{entry}` twice, which CUDA refuses")
            }
            (VisibleDevices::Listed(list), Some(Cut::Invalid(_))) => format!("{VARIABLE} is `{list}`, which hides all"),
            (VisibleDevices::Listed(list), None) => format!("{VARIABLE} is `{list}`"),
        }
    }
}

#[cfg(test)]
mod tests;
