//! A decimal number kept exact: no floating point stands between what is written and what is counted.

/// Digits after the point that count. At a terabyte a unit of the last one is a millionth of a byte.
const SCALE_DIGITS: usize = 18;
const SCALE: u128 = 10u128.pow(SCALE_DIGITS as u32);

/// Longest whole part that cannot overflow: a `u64` has 20 digits.
const WHOLE_DIGITS: usize = 20;

/// A number as written: digits, perhaps with a point, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    whole: u128,
    /// In units of 1 / [`SCALE`].
    fraction: u128,
    pub(super) has_point: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecimalError {
    NotANumber,
    TooLarge,
}

impl Decimal {
    pub(super) fn parse(text: &str) -> Result<Self, DecimalError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !fraction.is_none_or(digits) {
            return Err(DecimalError::NotANumber);
        }
        // `.5` is fine; `5.` and `.` are slips of the hand.
        if fraction.map_or(whole.is_empty(), str::is_empty) {
            return Err(DecimalError::NotANumber);
        }
        let whole = whole.trim_start_matches('0');
        if whole.len() > WHOLE_DIGITS {
            return Err(DecimalError::TooLarge);
        }
        let shown = fraction.unwrap_or("");
        let shown = &shown[..shown.len().min(SCALE_DIGITS)];
        Ok(Self {
            whole: number(whole),
            fraction: number(shown) * 10u128.pow((SCALE_DIGITS - shown.len()) as u32),
            has_point: fraction.is_some(),
        })
    }

    /// This many times `unit`, rounded up to a whole number. `None` if it does not fit.
    pub(super) fn times(self, unit: u64) -> Option<u64> {
        let unit = u128::from(unit);
        let part = (self.fraction * unit).div_ceil(SCALE);
        u64::try_from(self.whole.checked_mul(unit)?.checked_add(part)?).ok()
    }

    /// This many times `unit`, rounded down, so that nothing above `limit` passes as `limit`.
    pub(super) fn at_most(self, limit: u128, unit: u64) -> Option<u64> {
        if self.whole > limit || (self.whole == limit && self.fraction > 0) {
            return None;
        }
        let unit = u128::from(unit);
        let part = self.fraction * unit / SCALE;
        u64::try_from(self.whole.checked_mul(unit)?.checked_add(part)?).ok()
    }
}

/// The caller has seen to it that there are only digits, and at most [`WHOLE_DIGITS`] of them.
fn number(digits: &str) -> u128 {
    digits.bytes().fold(0, |value, byte| value * 10 + u128::from(byte - b'0'))
}
