//! The progress of an inflation, a bar per GPU on standard error. Shows nothing where that is no terminal.

use std::io::{self, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Glyphs;
use crate::units::ByteSize;

/// The widest bar takes what the figures leave of the line.
const TEMPLATE: &str = "{prefix}  {wide_bar}  {msg}";

/// One bar a GPU.
pub struct ProgressBars {
    /// Keeps the bars together on the terminal.
    _screen: MultiProgress,
    bars: Vec<(u32, ProgressBar)>,
}

impl ProgressBars {
    /// Empty bars for the GPUs with these ordinals.
    pub fn new(ordinals: &[u32]) -> Self {
        let screen = MultiProgress::new();
        let cells = match Glyphs::from_environment() {
            Glyphs::Unicode => "●·",
            Glyphs::Ascii => "o.",
        };
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let style = style.progress_chars(cells);
        let digits = ordinals.iter().map(|ordinal| ordinal.to_string().len()).max().unwrap_or(0);
        let bar = |&ordinal: &u32| {
            // Not zero, of which nothing would be everything.
            let bar = screen.add(ProgressBar::new(u64::MAX)).with_style(style.clone());
            bar.set_prefix(format!("GPU {ordinal:digits$}"));
            (ordinal, bar)
        };
        let bars = ordinals.iter().map(bar).collect();
        Self { _screen: screen, bars }
    }

    /// How much of its target a GPU holds. Drawn no more often than an eye can follow.
    pub fn set(&mut self, ordinal: u32, held: ByteSize, target: ByteSize) {
        let Some((_, bar)) = self.bars.iter().find(|(known, _)| *known == ordinal) else { return };
        bar.set_length(target.bytes());
        bar.set_message(format!("{held:>9} of {target:<9}"));
        bar.set_position(held.bytes());
    }

    /// Leaves the bars as they stand, so that what follows is written below them.
    pub fn finish(self) {
        for (_, bar) in &self.bars {
            bar.abandon();
        }
        // The cursor is still behind the last bar.
        if self.bars.iter().any(|(_, bar)| !bar.is_hidden()) {
            let _ = io::stderr().write_all(b"\n");
        }
    }
}
