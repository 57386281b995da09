//! The name of a balloon: what a file may be called, a user can type, and a terminal shows unharmed.

use std::fmt;
use std::str::FromStr;

/// The longest name, in bytes: with its suffix it fits a file name and a socket address.
const MAX: usize = 64;

/// The name of a balloon, unique among its user's balloons.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

/// Why a text is no name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    #[error("a balloon's name must not be empty")]
    Empty,
    #[error("a balloon's name may have at most {MAX} bytes; this one has {0}")]
    Long(usize),
    #[error("`{}` is no name for a balloon: use letters, digits, `.`, `_`, `-`, and not only digits, no `.` or `-` in front", .0.escape_debug())]
    Characters(String),
}

impl Name {
    /// The name of a balloon that was given none: its holder's pid.
    pub fn of_pid(pid: u32) -> Self {
        Self(pid.to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // A name of digits would be taken for a pid, one with a dash in front for an option.
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if text.len() > MAX {
            return Err(NameError::Long(text.len()));
        }
        let begins = first.is_alphabetic() || first == '_' || first.is_ascii_digit() && !is_number(text);
        if begins && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Characters(text.to_owned()))
        }
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken() {
        for text in ["train", "a", "llama-3.1_8B", "_x", "2nd", "größe"] {
            assert_eq!(text.parse::<Name>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        assert_eq!("".parse::<Name>(), Err(NameError::Empty));
        assert_eq!("x".repeat(65).parse::<Name>(), Err(NameError::Long(65)));
        for text in ["a/b", "..", ".hidden", "-x", "a b", "a\nb", "\u{1b}[2J", "42", "a\0b"] {
            assert_eq!(text.parse::<Name>(), Err(NameError::Characters(text.to_owned())), "{text:?}");
        }
    }
}
