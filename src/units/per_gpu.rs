//! A list of sizes: one for every GPU, one per GPU in order, or one per named GPU.

use std::fmt;
use std::str::FromStr;

use super::SpecError;

/// `T` for each GPU, as written. `4GB`, `4GB,2GB` or `0=4GB,1=2GB`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PerGpu<T> {
    /// Each GPU resolves it for itself.
    Same(T),
    InOrder(Vec<T>),
    Named(Vec<(String, T)>),
}

/// A chosen GPU, as a list of sizes may name it.
pub trait NamedGpu {
    /// Whether `key` is a name of this GPU: its index, its UUID or a prefix of it, its bus id.
    fn answers_to(&self, key: &str) -> bool;

    /// The name to print, which this GPU answers to.
    fn shown(&self) -> String;
}

impl<T: Clone + fmt::Display> PerGpu<T> {
    /// One item for each of `gpus`, in their order.
    ///
    /// # Errors
    /// A list that does not match the GPUs: a usage error that says what would match.
    pub fn per_gpu<G: NamedGpu>(&self, gpus: &[G]) -> Result<Vec<T>, SpecError> {
        match self {
            Self::Same(item) => Ok(vec![item.clone(); gpus.len()]),
            Self::InOrder(items) if items.len() == gpus.len() => Ok(items.clone()),
            Self::InOrder(items) => Err(SpecError::WrongLength {
                list: self.to_string(),
                items: items.len(),
                gpus: gpus.len(),
                nearest: joined(items.iter().cycle().take(gpus.len())),
            }),
            Self::Named(items) => self.by_name(items, gpus),
        }
    }

    fn by_name<G: NamedGpu>(&self, items: &[(String, T)], gpus: &[G]) -> Result<Vec<T>, SpecError> {
        if let Some((key, item)) = items.iter().find(|(key, _)| !gpus.iter().any(|gpu| gpu.answers_to(key))) {
            return Err(SpecError::UnknownGpu {
                list: self.to_string(),
                key: key.clone(),
                chosen: joined(gpus.iter().map(NamedGpu::shown)),
                nearest: joined(gpus.iter().map(|gpu| format!("{}={item}", gpu.shown()))),
            });
        }
        if let Some((key, _)) = items.iter().find(|(key, _)| gpus.iter().filter(|gpu| gpu.answers_to(key)).count() > 1)
        {
            return Err(SpecError::AmbiguousGpu {
                list: self.to_string(),
                key: key.clone(),
                chosen: joined(gpus.iter().map(NamedGpu::shown)),
            });
        }
        gpus.iter()
            .map(|gpu| {
                let mut named = items.iter().filter(|(key, _)| gpu.answers_to(key));
                match (named.next(), named.next()) {
                    (Some((_, item)), None) => Ok(item.clone()),
                    (Some(first), Some(second)) => Err(SpecError::GpuTwice {
                        list: self.to_string(),
                        gpu: gpu.shown(),
                        first: entry(first),
                        second: entry(second),
                    }),
                    (None, _) => Err(SpecError::MissingGpu {
                        list: self.to_string(),
                        gpu: gpu.shown(),
                        nearest: match items.first() {
                            Some((_, item)) => format!("{self},{}={item}", gpu.shown()),
                            None => format!("{}=2GB", gpu.shown()),
                        },
                    }),
                }
            })
            .collect()
    }
}

fn entry<T: fmt::Display>((key, item): &(String, T)) -> String {
    format!("{key}={item}")
}

fn joined<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

impl<T: FromStr<Err = SpecError>> FromStr for PerGpu<T> {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.iter().all(|part| part.is_empty()) {
            return Err(SpecError::Empty);
        }
        if parts.contains(&"") {
            let kept: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            return Err(SpecError::EmptyItem { list: text.trim().to_owned(), nearest: kept.join(",") });
        }
        let mut items = Vec::new();
        let mut named = Vec::new();
        for part in parts {
            let Some((key, item)) = part.split_once('=') else {
                items.push(part.parse()?);
                continue;
            };
            let (key, item) = (key.trim(), item.trim());
            if key.is_empty() || item.is_empty() {
                let or = |part: &str, else_: &str| match part {
                    "" => else_.to_owned(),
                    part => part.to_owned(),
                };
                return Err(SpecError::EmptyItem {
                    list: text.trim().to_owned(),
                    nearest: format!("{}={}", or(key, "0"), or(item, "2GB")),
                });
            }
            named.push((key.to_owned(), item.parse()?));
        }
        match (items.len(), named.len()) {
            (1, 0) => Ok(Self::Same(items.remove(0))),
            (_, 0) => Ok(Self::InOrder(items)),
            (0, _) => Ok(Self::Named(named)),
            _ => Err(SpecError::MixedList { list: text.trim().to_owned() }),
        }
    }
}

impl<T: fmt::Display> fmt::Display for PerGpu<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(item) => item.fmt(f),
            Self::InOrder(items) => f.write_str(&joined(items.iter())),
            Self::Named(items) => f.write_str(&joined(items.iter().map(entry))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Amount, ByteSize, Change, ReserveSpec, ResizeSpec};

    const GB: u64 = 1 << 30;

    fn bytes(bytes: u64) -> Amount {
        Amount::Bytes(ByteSize::new(bytes))
    }

    /// A GPU that is named by its place in the list.
    struct Numbered(usize);

    impl NamedGpu for Numbered {
        fn answers_to(&self, key: &str) -> bool {
            key == self.0.to_string()
        }

        fn shown(&self) -> String {
            self.0.to_string()
        }
    }

    #[test]
    fn a_list_gives_each_gpu_its_own() {
        let gpus = [Numbered(0), Numbered(1)];
        let table = [
            ("4GB", [4 * GB, 4 * GB]),
            ("4GB,2GB", [4 * GB, 2 * GB]),
            (" 4GB , 2GB ", [4 * GB, 2 * GB]),
            ("1=2GB,0=4GB", [4 * GB, 2 * GB]),
            ("0 = 4 GB, 1 = 2 GB", [4 * GB, 2 * GB]),
        ];
        for (text, meant) in table {
            let spec: ReserveSpec = text.parse().unwrap();
            assert_eq!(spec.per_gpu(&gpus), Ok(meant.map(bytes).to_vec()), "{text}");
            assert_eq!(spec.to_string().parse(), Ok(spec), "{text} shown");
        }
        let resize: ResizeSpec = "+1GB,-1GB".parse().unwrap();
        assert_eq!(resize.per_gpu(&gpus), Ok(vec![Change::Grow(bytes(GB)), Change::Shrink(bytes(GB))]));
    }

    #[test]
    fn a_list_that_does_not_match_its_gpus_is_refused() {
        let gpus = [Numbered(0), Numbered(1)];
        let table = [
            ("1GB,2GB,3GB", "write one for all or `1GB,2GB`"),
            ("0=4GB", "write `0=4GB,1=4GB`"),
            ("0=4GB,7=2GB", "`7` in `0=4GB,7=2GB` is none of the chosen GPUs (0,1)"),
            ("0=1GB,0=2GB,1=3GB", "keep one of `0=1GB` and `0=2GB`"),
            ("0=1GB,2GB", "write `GPU=SIZE` for each or for none"),
            ("1GB,", "write `1GB`"),
            ("1GB,,2GB", "write `1GB,2GB`"),
            ("0=,1=2GB", "write `0=2GB`"),
            ("=2GB", "write `0=2GB`"),
            (",", "the size is empty"),
            ("", "the size is empty"),
            ("1GB,0", "`0` is nothing"),
        ];
        for (text, says) in table {
            let refused = text.parse::<ReserveSpec>().and_then(|spec| spec.per_gpu(&gpus)).unwrap_err().to_string();
            assert!(refused.contains(says), "{text}: {refused}");
        }
        let three = [Numbered(0), Numbered(1), Numbered(2)];
        let spec: ReserveSpec = "4GB,2GB".parse().unwrap();
        let refused = spec.per_gpu(&three).unwrap_err().to_string();
        assert!(refused.contains("`4GB,2GB,4GB`"), "{refused}");
    }
}
