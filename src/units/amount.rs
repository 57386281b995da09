//! What one entry of `--reserve` asks for, and how many bytes that is on one GPU.

use std::fmt;

use super::{ByteSize, SpecError};

/// One entry of a specification. Shows as a spelling that parses back to the same amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Bytes(ByteSize),
    ShareOfFree(Share),
    ShareOfTotal(Share),
    /// Everything that is free.
    All,
    /// Everything that is free but this much, which stays free for others.
    AllBut(ByteSize),
    /// By how busy the GPU is.
    Auto,
}

/// More than nothing and at most the whole, kept in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// One GPU's memory at the moment an amount is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the driver reports as free.
    pub free: ByteSize,
    pub total: ByteSize,
    /// What this balloon holds there already.
    pub held: ByteSize,
}

impl Memory {
    /// What a balloon could hold in all: what is free, and what it holds.
    pub fn available(&self) -> ByteSize {
        self.free.saturating_add(self.held)
    }
}

impl Amount {
    /// The target size in bytes, a multiple of `granularity`. Sizes round up; shares of what is free and
    /// `all` round down, because rounded up they would ask for more than there is.
    ///
    /// `utilization` is in percent, `None` where the driver does not tell: `auto` then takes the GPU for busy.
    ///
    /// # Errors
    /// A size above the GPU's total, or a share of nothing ([`SpecError::is_shortage`]).
    pub fn resolve(
        &self,
        memory: &Memory,
        utilization: Option<u32>,
        granularity: ByteSize,
    ) -> Result<ByteSize, SpecError> {
        let available = memory.available();
        match *self {
            Self::Bytes(size) => size
                .round_up(granularity)
                .filter(|size| *size <= memory.total)
                .ok_or_else(|| self.more_than_total(memory.total)),
            Self::ShareOfTotal(share) => {
                let size = share.of(memory.total);
                let whole = memory.total.round_down(granularity);
                let size = size.round_up(granularity).unwrap_or(whole).min(whole);
                self.unless_nothing(size, memory)
            }
            Self::ShareOfFree(share) => self.share_of_free(share, memory, granularity),
            Self::Auto => self.share_of_free(auto_share(utilization), memory, granularity),
            Self::All => self.unless_nothing(available.round_down(granularity), memory),
            Self::AllBut(rest) if rest >= memory.total => Err(self.more_than_total(memory.total)),
            Self::AllBut(rest) => {
                let size = available.saturating_sub(rest);
                self.unless_nothing(size.round_down(granularity), memory)
            }
        }
    }

    /// What must be available for anything to be held at all: one unit of the driver, above what stays free for others.
    pub fn least(&self, granularity: ByteSize) -> ByteSize {
        match *self {
            Self::AllBut(rest) => rest.saturating_add(granularity),
            _ => granularity,
        }
    }

    /// Whether it goes by what the driver reports as free, of which it gives the last MB to nobody.
    pub fn is_of_free(&self) -> bool {
        matches!(self, Self::All | Self::AllBut(_) | Self::ShareOfFree(_) | Self::Auto)
    }

    /// A share too small for one unit of the driver still is a wish for something.
    fn share_of_free(&self, share: Share, memory: &Memory, granularity: ByteSize) -> Result<ByteSize, SpecError> {
        let available = memory.available();
        let size = share.of(available).round_down(granularity);
        let least = granularity.min(available.round_down(granularity));
        self.unless_nothing(size.max(least), memory)
    }

    fn unless_nothing(&self, size: ByteSize, memory: &Memory) -> Result<ByteSize, SpecError> {
        if size.is_zero() {
            return Err(SpecError::NothingFree {
                value: self.to_string(),
                free: memory.available(),
                total: memory.total,
            });
        }
        Ok(size)
    }

    fn more_than_total(&self, total: ByteSize) -> SpecError {
        let most = format!("{}MB", total.mb());
        SpecError::MoreThanTotal {
            value: self.to_string(),
            total,
            nearest: match self {
                Self::AllBut(_) => format!("all-{most}"),
                _ => most,
            },
        }
    }
}

fn auto_share(utilization: Option<u32>) -> Share {
    match utilization {
        Some(..20) => Share::percent(90),
        Some(..50) => Share::percent(60),
        _ => Share::percent(30),
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(size) => f.write_str(&size.exact()),
            Self::ShareOfFree(share) => share.fmt(f),
            Self::ShareOfTotal(share) => write!(f, "{share}total"),
            Self::All => f.write_str("all"),
            Self::AllBut(rest) => write!(f, "all-{}", rest.exact()),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl Share {
    pub(super) const WHOLE: u32 = 1_000_000_000;

    const fn percent(percent: u32) -> Self {
        Self(percent * (Self::WHOLE / 100))
    }

    /// `None` for nothing and for more than the whole.
    pub(super) fn from_billionths(billionths: u64) -> Option<Self> {
        let billionths = u32::try_from(billionths).ok()?;
        (1..=Self::WHOLE).contains(&billionths).then_some(Self(billionths))
    }

    /// This share of `size` in bytes, rounded down.
    pub fn of(self, size: ByteSize) -> ByteSize {
        let bytes = u128::from(size.bytes()) * u128::from(self.0) / u128::from(Self::WHOLE);
        // At most the whole, so it fits; `size` stands in for what cannot happen.
        u64::try_from(bytes).map_or(size, ByteSize::new)
    }

    /// What is left of the whole, `None` if this is all of it.
    pub(super) fn rest(self) -> Option<Self> {
        Self::from_billionths(u64::from(Self::WHOLE - self.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ONE_PERCENT: u32 = Share::WHOLE / 100;
        write!(f, "{}", self.0 / ONE_PERCENT)?;
        let fraction = format!("{:07}", self.0 % ONE_PERCENT);
        match fraction.trim_end_matches('0') {
            "" => f.write_str("%"),
            fraction => write!(f, ".{fraction}%"),
        }
    }
}
