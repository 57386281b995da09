//! Times as they are typed, read as timeout(1) and flock(1) read them.

use std::time::Duration;

/// How long a holder waits for its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    Forever,
    /// Zero is no wait.
    For(Duration),
}

/// # Errors
/// As [`duration`].
pub fn patience(text: &str) -> Result<Patience, String> {
    if text == "forever" { Ok(Patience::Forever) } else { duration(text).map(Patience::For) }
}

/// A time that must pass between two looks.
///
/// # Errors
/// As [`duration`], and zero.
pub fn pause(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("a pause must be longer than zero, such as 2s or 500ms".to_owned()),
        pause => Ok(pause),
    }
}

/// `2h30m` and the like, and bare seconds with or without a fraction.
///
/// # Errors
/// It is negative, no time, or longer than can be counted.
pub fn duration(text: &str) -> Result<Duration, String> {
    let is_bare = text.bytes().any(|byte| byte.is_ascii_digit()) && text.bytes().all(is_of_a_number);
    let whole = if text.starts_with('.') { "0" } else { "" };
    let unit = if is_bare { "s" } else { "" };
    humantime::parse_duration(&format!("{whole}{text}{unit}"))
        .map_err(|_| format!("`{text}` is no time; write a time such as 90s or 2h30m"))
}

fn is_of_a_number(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_what_timeout_takes_it_for() {
        for (text, milliseconds) in [
            ("90", 90_000),
            ("0", 0),
            ("0s", 0),
            ("0.0", 0),
            ("1.5", 1500),
            (".5", 500),
            (".5m", 30_000),
            ("250ms", 250),
            ("2h30m", 9_000_000),
            ("1 h", 3_600_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_an_example() {
        for text in ["", ".", "-1", "-5s", "+", "s", "5x", "1.", "1.2.3", "1e3", "inf", "nan", "99999999999999999999"] {
            let error = duration(text).expect_err(text);
            assert!(error.ends_with("write a time such as 90s or 2h30m"), "{text}: {error}");
        }
    }

    #[test]
    fn only_a_pause_cannot_be_zero() {
        assert_eq!(patience("0"), Ok(Patience::For(Duration::ZERO)));
        assert_eq!(patience("forever"), Ok(Patience::Forever));
        assert_eq!(pause("0.5"), Ok(Duration::from_millis(500)));
        assert!(pause("0").is_err());
        assert!(pause("0ms").is_err());
    }
}
