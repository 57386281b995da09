//! Text that fits its place: widths in terminal columns, cut and wrapped.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Glyphs, Look};

/// A piece of a line that is never broken.
pub struct Item {
    pub text: String,
    pub style: Style,
}

impl Item {
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: Style::new() }
    }

    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl Look {
    /// The text in its style, where there are colours.
    pub fn painted(&self, text: &str, style: Style) -> String {
        if self.colour && style != Style::new() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// The text within `columns`, its end replaced by an ellipsis where it is longer.
    pub fn cut(&self, text: &str, columns: usize) -> String {
        if text.width() <= columns {
            return text.to_owned();
        }
        let ellipsis = match self.glyphs {
            Glyphs::Unicode => "…",
            Glyphs::Ascii => "...",
        };
        let Some(room) = columns.checked_sub(ellipsis.width()) else { return ".".repeat(columns) };
        let mut taken = 0;
        let mut kept = String::new();
        for c in text.chars() {
            taken += c.width().unwrap_or(0);
            if taken > room {
                break;
            }
            kept.push(c);
        }
        kept + ellipsis
    }

    /// The items two spaces apart, wrapped between items, each line after the first one indented by `hang`.
    pub fn flow(&self, hang: usize, items: &[Item]) -> String {
        let mut text = String::new();
        let mut column = 0;
        for item in items {
            let room =
                self.columns.map_or(usize::MAX, |columns| columns.saturating_sub(if column == 0 { 0 } else { hang }));
            let item_text = self.cut(&item.text, room);
            let width = item_text.width();
            if column > 0 && self.columns.is_some_and(|columns| column + 2 + width > columns) {
                text.push('\n');
                text.push_str(&" ".repeat(hang));
                column = hang;
            } else if column > 0 {
                text.push_str("  ");
                column += 2;
            }
            text.push_str(&self.painted(&item_text, item.style));
            column += width;
        }
        text.push('\n');
        text
    }

    /// The same with `indent` spaces before each line.
    pub fn flow_indented(&self, indent: usize, hang: usize, items: &[Item]) -> String {
        let inner = Look { columns: self.columns.map(|columns| columns.saturating_sub(indent)), ..*self };
        let lines = inner.flow(hang, items);
        lines.lines().map(|line| format!("{}{line}\n", " ".repeat(indent))).collect()
    }
}

/// The text filled up with spaces to `columns`.
pub fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(text.width())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(columns: usize) -> Look {
        Look { columns: Some(columns), glyphs: Glyphs::Unicode, colour: false }
    }

    #[test]
    fn text_is_cut_by_columns_not_by_characters() {
        assert_eq!(look(80).cut("train", 5), "train");
        assert_eq!(look(80).cut("training", 5), "trai…");
        assert_eq!(look(80).cut("日本語モデル", 6), "日本…", "half a wide character is none");
        assert_eq!(look(80).cut("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…", "an accent stays on its letter");
        assert_eq!(look(80).cut("ab", 0), "");
        let ascii = Look { glyphs: Glyphs::Ascii, ..look(80) };
        assert_eq!(ascii.cut("training", 5), "tr...");
        assert_eq!(ascii.cut("training", 2), "..");
    }

    #[test]
    fn items_wrap_whole() {
        let items = ["GPU 0", "NVIDIA H200", "1.0 GB free", "a very long item that fits no line"].map(Item::plain);
        assert_eq!(look(26).flow(4, &items), "GPU 0  NVIDIA H200\n    1.0 GB free\n    a very long item that…\n");
        let endless = Look { columns: None, ..look(0) };
        assert_eq!(endless.flow(4, &items[..3]), "GPU 0  NVIDIA H200  1.0 GB free\n");
    }
}
