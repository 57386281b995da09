//! `ByteSize`: a number of bytes that cannot overflow unnoticed.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Amount, SpecError};

/// Bytes of device memory. Shown as `2.0 GB`, in units of 1024; as JSON a plain integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

pub(super) const UNITS: [(&str, u64); 5] =
    [("B", 1), ("KB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];

impl ByteSize {
    pub const ZERO: Self = Self(0);

    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Whole megabytes, rounded down, for the `_mb` fields of the JSON.
    pub const fn mb(self) -> u64 {
        self.0 >> 20
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The next multiple of `granularity`; a granularity of zero changes nothing. `None` if it does not fit.
    pub fn round_up(self, granularity: Self) -> Option<Self> {
        if granularity.is_zero() {
            return Some(self);
        }
        self.0.checked_next_multiple_of(granularity.0).map(Self)
    }

    /// The multiple of `granularity` at or below; a granularity of zero changes nothing.
    pub fn round_down(self, granularity: Self) -> Self {
        Self(self.0 - self.0.checked_rem(granularity.0).unwrap_or(0))
    }

    /// In the largest unit that loses nothing, as a size that parses back to the same bytes: `2560MB`.
    pub fn exact(self) -> String {
        let (name, unit) = UNITS
            .into_iter()
            .rev()
            .find(|(_, unit)| self.0.is_multiple_of(*unit) && !self.is_zero())
            .unwrap_or(UNITS[0]);
        format!("{}{name}", self.0 / unit)
    }
}

/// Never more than fits: a sum that does not is the most there is.
impl Sum for ByteSize {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::ZERO, Self::saturating_add)
    }
}

/// For people: one decimal, padded like any text in a table. It parses too, but may have lost bytes.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |unit: u64| (u128::from(self.0) * 10 + u128::from(unit / 2)) / u128::from(unit);
        // By what would be shown, so that no size reads `1024.0 MB`.
        let (name, unit) =
            UNITS.into_iter().find(|(_, unit)| tenths(*unit) < 10 * 1024).unwrap_or(UNITS[UNITS.len() - 1]);
        if unit == 1 {
            return f.pad(&format!("{} {name}", self.0));
        }
        let tenths = tenths(unit);
        f.pad(&format!("{}.{} {name}", tenths / 10, tenths % 10))
    }
}

/// A size in bytes as `--chunk-size` takes it: `100MB`, and whole numbers are megabytes.
impl FromStr for ByteSize {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text.parse() {
            Ok(Amount::Bytes(size)) => Ok(size),
            // Here a share would be no better.
            Err(SpecError::NoUnit { value }) => Err(SpecError::NotASize { nearest: format!("{value}GB"), value }),
            Err(error) => Err(error),
            Ok(_) => Err(SpecError::NotBytes { value: text.trim().to_owned(), nearest: "100MB".to_owned() }),
        }
    }
}
