//! Reads one entry: an amount, or a change. Says what would have worked where it cannot.

use std::str::FromStr;

use super::number::{Decimal, DecimalError};
use super::size::UNITS;
use super::{Amount, ByteSize, Change, Share, SpecError};

const MEGABYTE: u64 = 1 << 20;

/// What a number may be followed by. Letters only differ in case, and a space in between is allowed.
enum Unit {
    None,
    Bytes(u64),
    Percent,
    PercentOfTotal,
}

impl FromStr for Amount {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let value = text.trim();
        let lower = value.to_ascii_lowercase();
        match lower.as_str() {
            "" => return Err(SpecError::Empty),
            "all" => return Ok(Self::All),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        if let Some(rest) = lower.strip_prefix("all")
            && let Some(rest) = rest.trim_start().strip_prefix('-')
        {
            return all_but(value, rest);
        }
        if let Some(rest) = lower.strip_prefix('-') {
            return Err(SpecError::Negative { value: value.to_owned(), nearest: nearest(rest.trim_start()) });
        }
        measured(value, &lower)
    }
}

impl FromStr for Change {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let value = text.trim();
        let amount = |rest: &str| -> Result<Amount, SpecError> {
            match rest.parse()? {
                Amount::Auto => Err(SpecError::NotAChange { value: value.to_owned(), nearest: "auto".to_owned() }),
                amount => Ok(amount),
            }
        };
        if let Some(rest) = value.strip_prefix('+') {
            return amount(rest).map(Self::Grow);
        }
        let Some(rest) = value.strip_prefix('-') else {
            return value.parse().map(Self::To);
        };
        match amount(rest)? {
            // Half of what is free, or half of what is held? Both can be meant.
            amount @ (Amount::ShareOfFree(_) | Amount::All | Amount::AllBut(_)) => Err(SpecError::NotAChange {
                value: value.to_owned(),
                nearest: match amount {
                    Amount::ShareOfFree(_) => "-1GB",
                    _ => "gpu-balloon release",
                }
                .to_owned(),
            }),
            amount => Ok(Self::Shrink(amount)),
        }
    }
}

fn all_but(value: &str, rest: &str) -> Result<Amount, SpecError> {
    match measured(rest.trim(), rest.trim()) {
        Ok(Amount::Bytes(rest)) => Ok(Amount::AllBut(rest)),
        Ok(Amount::ShareOfFree(share)) => Err(SpecError::NotBytes {
            value: value.to_owned(),
            nearest: share.rest().map_or("all".to_owned(), |rest| rest.to_string()),
        }),
        Err(SpecError::Zero { .. }) => Err(SpecError::Zero { value: value.to_owned(), nearest: "all".to_owned() }),
        _ => Err(SpecError::NotASize { value: value.to_owned(), nearest: "all-2GB".to_owned() }),
    }
}

/// A number and its unit. `lower` is `value` in small letters.
fn measured(value: &str, lower: &str) -> Result<Amount, SpecError> {
    amount_of(lower).map_err(|fault| {
        let value = value.to_owned();
        match fault {
            Fault::NotASize => SpecError::NotASize { value, nearest: nearest(lower) },
            Fault::NoUnit => SpecError::NoUnit { value },
            Fault::Zero => SpecError::Zero { value, nearest: least(lower).to_owned() },
            Fault::AboveWhole(nearest) => SpecError::AboveWhole { value, nearest: nearest.to_owned() },
            Fault::TooLarge => SpecError::TooLarge { value },
        }
    })
}

/// What is wrong with a number and its unit, before it is put into words.
enum Fault {
    NotASize,
    NoUnit,
    Zero,
    AboveWhole(&'static str),
    TooLarge,
}

fn amount_of(lower: &str) -> Result<Amount, Fault> {
    let (number, unit) = split(lower);
    let unit = Unit::named(unit).ok_or(Fault::NotASize)?;
    let number = Decimal::parse(number).map_err(|error| match error {
        DecimalError::NotANumber => Fault::NotASize,
        DecimalError::TooLarge => Fault::TooLarge,
    })?;
    let share = |whole: u128, too_much: Fault| {
        let one = u64::from(Share::WHOLE) / whole as u64;
        let billionths = number.at_most(whole, one).ok_or(too_much)?;
        Share::from_billionths(billionths).ok_or(Fault::Zero)
    };
    let bytes = |unit| match number.times(unit) {
        None => Err(Fault::TooLarge),
        Some(0) => Err(Fault::Zero),
        Some(bytes) => Ok(Amount::Bytes(ByteSize::new(bytes))),
    };
    match unit {
        Unit::None if number.has_point => share(1, Fault::NoUnit).map(Amount::ShareOfFree),
        Unit::None => bytes(MEGABYTE),
        Unit::Bytes(unit) => bytes(unit),
        Unit::Percent => share(100, Fault::AboveWhole("100%")).map(Amount::ShareOfFree),
        Unit::PercentOfTotal => share(100, Fault::AboveWhole("100%total")).map(Amount::ShareOfTotal),
    }
}

impl Unit {
    /// `name` is in small letters.
    fn named(name: &str) -> Option<Self> {
        match name.strip_prefix('%').map(str::trim_start) {
            Some("") => return Some(Self::Percent),
            Some("total") => return Some(Self::PercentOfTotal),
            Some(_) => return None,
            None if name.is_empty() => return Some(Self::None),
            None => {}
        }
        let letter = match name {
            "b" => "b",
            "k" | "kb" | "kib" => "k",
            "m" | "mb" | "mib" => "m",
            "g" | "gb" | "gib" => "g",
            "t" | "tb" | "tib" => "t",
            _ => return None,
        };
        unit_starting_with(letter).map(|(_, unit)| Self::Bytes(unit))
    }
}

/// The number at the front, and what follows it.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn unit_starting_with(letter: &str) -> Option<(&'static str, u64)> {
    UNITS.into_iter().find(|(name, _)| name.to_ascii_lowercase().starts_with(letter))
}

/// The least of a kind, for someone who wrote a zero of it.
fn least(lower: &str) -> &'static str {
    let (number, unit) = split(lower);
    match Unit::named(unit) {
        Some(Unit::Percent) => "1%",
        Some(Unit::PercentOfTotal) => "1%total",
        Some(Unit::None) if number.contains('.') => "0.01",
        Some(Unit::None) => "1",
        _ => "1GB",
    }
}

/// The valid spelling nearest to something that has none: keep the number, mend the unit.
fn nearest(lower: &str) -> String {
    const ANY: &str = "2GB";
    if amount_of(lower).is_ok() {
        return lower.to_ascii_uppercase().replace("TOTAL", "total");
    }
    let lower = lower.trim_start_matches('+').trim_start();
    let (number, unit) = split(lower);
    let number = number.trim_end_matches('.');
    let unit = match unit.chars().next() {
        // `1e3` is a number elsewhere, and a whole one here.
        Some('e') => match lower.parse::<f64>() {
            Ok(megabytes @ 1.0..1e9) => return format!("{megabytes:.0}"),
            _ => return ANY.to_owned(),
        },
        Some('%') if unit.contains('t') => "%total",
        Some('%' | 'p') => "%",
        Some(letter) => unit_starting_with(letter.encode_utf8(&mut [0; 4])).map_or("GB", |u| u.0),
        None => "GB",
    };
    let mended = format!("{number}{unit}");
    // A number that is wrong itself cannot be kept.
    match amount_of(&mended.to_ascii_lowercase()) {
        Ok(_) => mended,
        Err(_) => ANY.to_owned(),
    }
}
