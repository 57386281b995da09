//! `status` for people: per GPU a bar with its legend and who holds what, then the balloons.

use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::bar::cells;
use super::text::{Item, padded};
use super::{Balloon, Glyphs, Gpu, GpuMemory, Look, Part, Process, Snapshot};
use crate::control::wire::State;
use crate::units::ByteSize;
use crate::untrusted::printable;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const WARNING: Style = AnsiColor::Red.on_default();

const INDENT: usize = 2;

/// A wider bar tells no more.
const WIDEST_BAR: usize = 100;

/// The width where there is no terminal.
const DEFAULT_COLUMNS: usize = 80;

/// Drivers keep some memory that no process has: less than this is not worth a line.
const UNREMARKABLE: ByteSize = ByteSize::new(256 << 20);

/// A user name that takes more would push the sizes aside.
const WIDEST_USER: usize = 16;

/// The snapshot at the time `now`.
pub fn render(snapshot: &Snapshot, look: Look, now: SystemTime) -> String {
    let gpus = snapshot.gpus.iter().map(|gpu| look.gpu(gpu));
    let balloons = snapshot.balloons.iter().map(|balloon| look.balloon(balloon, now));
    let mut blocks: Vec<String> = gpus.collect();
    if snapshot.balloons.is_empty() {
        blocks.push(look.flow(0, &[Item::styled("no balloons", DIM)]));
    }
    blocks.extend(balloons);
    blocks.join("\n")
}

/// A kind of memory in a bar: its glyph tells it apart without colours, too.
struct Kind {
    unicode: char,
    ascii: char,
    style: Style,
}

const OWN_BALLOON: Kind = Kind { unicode: '●', ascii: 'o', style: AnsiColor::Green.on_default() };
const FOREIGN_BALLOON: Kind = Kind { unicode: '○', ascii: 'x', style: AnsiColor::Magenta.on_default() };
const OWN_PROCESS: Kind = Kind { unicode: '█', ascii: '#', style: AnsiColor::Cyan.on_default() };
const OTHERS: Kind = Kind { unicode: '▒', ascii: '=', style: AnsiColor::Yellow.on_default() };
const FREE: Kind = Kind { unicode: '·', ascii: '.', style: DIM };

impl Kind {
    fn glyph(&self, look: Look) -> char {
        match look.glyphs {
            Glyphs::Unicode => self.unicode,
            Glyphs::Ascii => self.ascii,
        }
    }
}

impl Look {
    fn gpu(self, gpu: &Gpu) -> String {
        let title = gpu.ordinal.map_or_else(|| "GPU -".to_owned(), |ordinal| format!("GPU {ordinal}"));
        let mut heading = vec![Item::styled(title, BOLD)];
        let mut say = |text: String| heading.push(Item::plain(text));
        say(gpu.name.as_deref().map_or_else(|| gpu.uuid.clone(), printable));
        match gpu.memory {
            Some(memory) => say(format!("{} of {} used", memory.used, memory.total)),
            None => say("memory not known".to_owned()),
        }
        if let Some(percent) = gpu.utilization_percent {
            say(format!("{percent} % busy"));
        }
        match (gpu.ordinal, gpu.index) {
            (None, Some(index)) => say(format!("hidden here (nvidia-smi: {index})")),
            (None, None) => say("hidden here".to_owned()),
            (Some(ordinal), Some(index)) if ordinal != index => say(format!("nvidia-smi: {index}")),
            _ => {}
        }
        if let Some(mode) = gpu.compute_mode.as_deref().filter(|mode| *mode != "Default") {
            heading.push(Item::styled(format!("{mode} mode"), WARNING));
        }
        let hang = heading.first().map_or(0, |title| title.text.width() + 2);
        let bar = gpu.memory.map(|memory| self.bar(&memory)).unwrap_or_default();
        self.flow(hang, &heading) + &bar + &self.processes(&gpu.processes) + &self.hidden_processes(gpu)
    }

    fn bar(self, memory: &GpuMemory) -> String {
        let own_balloons = memory.own_balloons.saturating_add(memory.overhead);
        let parts = [
            (OWN_BALLOON, own_balloons, format!("your balloons {}", memory.own_balloons)),
            (FOREIGN_BALLOON, memory.foreign_balloons, format!("others' balloons {}", memory.foreign_balloons)),
            (OWN_PROCESS, memory.own_processes, format!("your processes {}", memory.own_processes)),
            (OTHERS, memory.others(), format!("others {}", memory.others())),
            (FREE, memory.free, format!("free {}", memory.free)),
        ];
        let width = self.columns.unwrap_or(DEFAULT_COLUMNS).saturating_sub(2 * INDENT).min(WIDEST_BAR);
        let sizes = parts.each_ref().map(|(_, size, _)| size.bytes());
        let mut text = " ".repeat(INDENT);
        for ((kind, ..), count) in parts.iter().zip(cells(&sizes, width)) {
            if count > 0 {
                text += &self.painted(&kind.glyph(self).to_string().repeat(count), kind.style);
            }
        }
        text.push('\n');
        let shown = parts.iter().filter(|(_, size, _)| !size.is_zero());
        let legend = shown.map(|(kind, _, label)| Item::styled(format!("{} {label}", kind.glyph(self)), kind.style));
        let mut legend: Vec<Item> = legend.collect();
        if !memory.overhead.is_zero() {
            legend.insert(1, Item::styled(format!("+ {} overhead", memory.overhead), OWN_BALLOON.style));
        }
        text + &self.flow_indented(INDENT, 0, &legend)
    }

    /// The processes in columns, largest first.
    fn processes(self, processes: &[Process]) -> String {
        let mut sorted: Vec<&Process> = processes.iter().collect();
        sorted.sort_by_key(|process| (std::cmp::Reverse(process.used), process.pid));
        let user = |process: &Process| self.cut(&printable(process.user.as_deref().unwrap_or("?")), WIDEST_USER);
        let users = sorted.iter().map(|process| user(process).width()).max().unwrap_or(0);
        let pids = sorted.iter().map(|process| process.pid.to_string().len()).max().unwrap_or(0);
        let line = |process: &&Process| {
            let kind = if process.is_own { OWN_PROCESS } else { OTHERS };
            let size = process.used.map_or_else(|| "?".to_owned(), |used| used.to_string());
            let user = padded(&user(process), users);
            let facts = format!("{} pid {:pids$}  {user}  {size:>9}", kind.glyph(self), process.pid);
            self.told(&facts, kind.style, process.command.as_deref().unwrap_or("?"))
        };
        sorted.iter().map(line).collect()
    }

    /// In a container, and under `hidepid`, the driver counts memory of processes that it does not show.
    fn hidden_processes(self, gpu: &Gpu) -> String {
        let mut shown = gpu.processes.iter().filter(|process| !process.is_own).map(|process| process.used);
        let shown = shown.try_fold(ByteSize::ZERO, |sum, used| Some(sum.saturating_add(used?)));
        let others = gpu.memory.map_or(ByteSize::ZERO, |memory| memory.others());
        match shown.map(|shown| others.saturating_sub(shown)) {
            Some(hidden) if hidden >= UNREMARKABLE => {
                let facts = format!("{} {hidden}", OTHERS.glyph(self));
                self.told(&facts, OTHERS.style, "of processes that are not shown to you")
            }
            _ => String::new(),
        }
    }

    /// An indented line: facts, then text that is cut where the line ends.
    fn told(self, facts: &str, style: Style, text: &str) -> String {
        let room = self.columns.map_or(usize::MAX, |columns| columns.saturating_sub(INDENT));
        let facts = self.cut(facts, room);
        let text = self.cut(&printable(text), room.saturating_sub(facts.width() + 2));
        let gap = if text.is_empty() { "" } else { "  " };
        format!("{}{}{gap}{text}\n", " ".repeat(INDENT), self.painted(&facts, style))
    }

    fn balloon(self, balloon: &Balloon, now: SystemTime) -> String {
        let kind = if balloon.is_own { OWN_BALLOON } else { FOREIGN_BALLOON };
        let name = format!("{} {}", kind.glyph(self), printable(&balloon.name));
        let (state, style) = state(balloon);
        let mut heading = vec![Item::styled(name, kind.style.bold()), Item::styled(state, style)];
        let mut say = |text: String| heading.push(Item::plain(text));
        if let Some(pid) = balloon.pid {
            say(format!("pid {pid}"));
        }
        if let Some(user) = &balloon.user {
            say(printable(user));
        }
        if let Some(started) = balloon.started_at {
            say(format!("started {} ago", span(now.duration_since(started).unwrap_or_default())));
        }
        match balloon.ends_at.map(|ends| ends.duration_since(now)) {
            Some(Ok(left)) => say(format!("ends in {}", span(left))),
            Some(Err(_)) => say("ends now".to_owned()),
            None => {}
        }
        let mut text = self.flow(2 * INDENT, &heading);
        for part in &balloon.parts {
            text += &self.part(part);
        }
        for (label, value) in [("reason", &balloon.reason), ("command", &balloon.command), ("log", &balloon.log)] {
            if let Some(value) = value {
                text += &self.told(label, DIM, value);
            }
        }
        text
    }

    fn part(self, part: &Part) -> String {
        let title = part.ordinal.map_or_else(|| part.uuid.clone(), |ordinal| format!("GPU {ordinal}"));
        let mut items = vec![Item::styled(title, BOLD)];
        items.push(Item::plain(match (part.allocated, part.target) {
            (Some(held), Some(target)) => format!("{held} of {target} held"),
            (Some(held), None) => format!("{held} held"),
            (None, _) => "size not known".to_owned(),
        }));
        if let (Some(chunks), Some(size)) = (part.chunks.filter(|chunks| *chunks > 0), part.chunk_size) {
            items.push(Item::plain(format!("{chunks} {} of {size}", if chunks == 1 { "chunk" } else { "chunks" })));
        }
        if let Some(handed_over) = part.handed_over.filter(|size| !size.is_zero()) {
            items.push(Item::plain(format!("{handed_over} handed over")));
        }
        if let Some(overhead) = part.overhead {
            items.push(Item::plain(format!("{overhead} overhead")));
        }
        self.flow_indented(INDENT, INDENT, &items)
    }
}

fn state(balloon: &Balloon) -> (String, Style) {
    match balloon.state {
        Some(State::Holding) => ("holding".to_owned(), Style::new()),
        Some(State::Inflating) => ("inflating".to_owned(), Style::new()),
        Some(State::Deflating) => ("deflating".to_owned(), Style::new()),
        Some(State::Waiting) => match balloon.place_in_line {
            Some(place) => (format!("waiting, place {place} in line"), Style::new()),
            None => ("waiting".to_owned(), Style::new()),
        },
        Some(State::Unresponsive) => ("does not answer".to_owned(), WARNING),
        None => ("state not known".to_owned(), DIM),
    }
}

/// A time as its two largest units: `2h 10m`.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
pub(super) mod tests;
