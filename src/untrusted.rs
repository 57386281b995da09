//! What others wrote, made fit for a terminal.

/// The text without control characters, and without those that change the direction of the text around them.
pub fn printable(text: &str) -> String {
    let is_harmful = |c: &char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let spaced = text.trim().chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    spaced.filter(|c| !is_harmful(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(printable("\u{1b}[2Jcat\u{7}\u{9b}31m\u{202e}evil"), "[2Jcat31mevil");
        assert_eq!(printable(" a\tb\nc\u{a0}d "), "a b c d");
    }
}
