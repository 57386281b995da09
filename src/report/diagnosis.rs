//! What `doctor` found, as JSON and for people.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::text::Item;
use super::{Glyphs, Look};
use crate::units::ByteSize;
use crate::untrusted::printable;

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

const INDENT: usize = 2;
const LABEL: usize = 17;

/// What is there, and whether it would hold. What is not known is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Diagnosis {
    pub schema: u32,
    /// Whether a `hold` would work on every visible GPU.
    pub is_healthy: bool,
    pub version: &'static str,
    /// Such as `570.86.15`.
    pub driver_version: Option<String>,
    /// The CUDA version that the driver supports, such as `12.8`.
    pub cuda_version: Option<String>,
    pub nvml_version: Option<String>,
    /// The value of `CUDA_VISIBLE_DEVICES`.
    pub visible_devices: Option<String>,
    /// Where holders are found, if that is this user's own and closed to others.
    pub runtime_directory: Option<String>,
    pub gpus: Vec<Examined>,
    /// What keeps a balloon from holding.
    pub problems: Vec<Problem>,
    /// What works less well than it could.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    pub what: String,
    pub hint: Option<String>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Examined {
    /// The CUDA ordinal, what `--gpu` calls it.
    pub gpu_id: Option<u32>,
    /// What nvidia-smi calls it.
    pub nvml_index: Option<u32>,
    pub uuid: String,
    pub pci_bus_id: Option<String>,
    pub name: Option<String>,
    pub total_bytes: Option<ByteSize>,
    pub free_bytes: Option<ByteSize>,
    pub compute_mode: Option<String>,
    pub is_mig_enabled: Option<bool>,
    pub is_mig_instance: bool,
    /// Why CUDA does not see it.
    pub hidden_because: Option<String>,
    pub trial: Option<Trial>,
}

/// A small balloon that was held and released.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    pub balloon_bytes: ByteSize,
    pub chunk_bytes: ByteSize,
    /// What the holder costs beside its balloon.
    pub overhead_bytes: Option<ByteSize>,
    pub context_microseconds: u128,
    /// To allocate one chunk.
    pub chunk_microseconds: u128,
    /// From the end of the release until others see the memory free.
    pub free_to_visible_microseconds: Option<u128>,
}

impl Diagnosis {
    /// On one line.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    pub fn text(&self, look: Look) -> String {
        let named = [("", &self.driver_version), ("CUDA ", &self.cuda_version), ("NVML ", &self.nvml_version)];
        let versions = named.into_iter().filter_map(|(name, version)| Some(format!("{name}{}", version.as_ref()?)));
        let versions = versions.collect::<Vec<_>>().join(", ");
        let versions = if versions.is_empty() { "not known".to_owned() } else { versions };
        let visible = match &self.visible_devices {
            Some(value) => format!("CUDA_VISIBLE_DEVICES={value}"),
            None => "all (CUDA_VISIBLE_DEVICES is not set)".to_owned(),
        };
        let directory = self.runtime_directory.as_ref().map(|path| format!("{path} (closed to other users)"));
        let directory = directory.unwrap_or_else(|| "none".to_owned());
        let mut text = String::new();
        let rows = [
            ("gpu-balloon", self.version.to_owned()),
            ("NVIDIA driver", versions),
            ("visible GPUs", visible),
            ("runtime directory", directory),
        ];
        for (label, value) in rows {
            let items = [Item::styled(format!("{label:LABEL$}"), BOLD), Item::plain(printable(&value))];
            text += &look.flow(LABEL + 2, &items);
        }
        for gpu in &self.gpus {
            text += "\n";
            text += &gpu.text(look);
        }
        if !self.problems.is_empty() || !self.notes.is_empty() || self.is_healthy {
            text += "\n";
        }
        for note in &self.notes {
            text += &look.flow(INDENT, &[Item::plain(printable(note))]);
        }
        for problem in &self.problems {
            text += &look.flow(INDENT, &[verdict(look, false), Item::plain(printable(&problem.what))]);
            if let Some(hint) = &problem.hint {
                text += &look.flow_indented(INDENT + 1, 0, &[Item::plain(format!("hint: {}", printable(hint)))]);
            }
        }
        if self.is_healthy {
            text += &look.flow(INDENT, &[verdict(look, true), Item::plain("a hold would work")]);
        }
        text
    }
}

impl Examined {
    fn text(&self, look: Look) -> String {
        let title = match self.gpu_id {
            Some(ordinal) => format!("GPU {ordinal}"),
            None => "GPU -".to_owned(),
        };
        let mut heading = vec![Item::styled(title, BOLD)];
        let mut say = |text: String| heading.push(Item::plain(text));
        say(self.name.as_deref().map_or_else(|| "name not known".to_owned(), printable));
        if let Some(index) = self.nvml_index {
            say(format!("nvidia-smi: {index}"));
        }
        match (self.free_bytes, self.total_bytes) {
            (Some(free), Some(total)) => say(format!("{free} of {total} free")),
            (None, Some(total)) => say(total.to_string()),
            _ => {}
        }
        let mut facts = vec![Item::plain(self.uuid.clone())];
        let mut say = |text: String| facts.push(Item::plain(text));
        if let Some(bus_id) = &self.pci_bus_id {
            say(format!("PCI {bus_id}"));
        }
        if let Some(mode) = &self.compute_mode {
            say(format!("compute mode {mode}"));
        }
        match (self.is_mig_instance, self.is_mig_enabled) {
            (true, _) => say("MIG instance".to_owned()),
            (false, Some(true)) => say("MIG on".to_owned()),
            (false, Some(false)) => say("MIG off".to_owned()),
            (false, None) => {}
        }
        let mut text = look.flow(7, &heading) + &look.flow_indented(INDENT, 0, &facts);
        if let Some(why) = &self.hidden_because {
            text += &look.flow_indented(INDENT, 0, &[Item::plain(format!("not visible: {}", printable(why)))]);
        }
        if let Some(trial) = &self.trial {
            text += &look.flow_indented(INDENT, INDENT, &trial.items(look));
        }
        text
    }
}

impl Trial {
    fn items(&self, look: Look) -> Vec<Item> {
        let mut items = vec![verdict(look, true), Item::plain(format!("{} held and released", self.balloon_bytes))];
        if let Some(overhead) = self.overhead_bytes {
            items.push(Item::plain(format!("{overhead} overhead")));
        }
        items.push(Item::plain(format!("context in {}", span(self.context_microseconds))));
        items.push(Item::plain(format!("a chunk of {} in {}", self.chunk_bytes, span(self.chunk_microseconds))));
        if let Some(lag) = self.free_to_visible_microseconds {
            items.push(Item::plain(format!("seen free after {}", span(lag))));
        }
        items
    }
}

fn verdict(look: Look, is_good: bool) -> Item {
    match (look.glyphs, is_good) {
        (Glyphs::Unicode, true) => Item::styled("✓", GOOD),
        (Glyphs::Unicode, false) => Item::styled("✗", BAD),
        (Glyphs::Ascii, true) => Item::styled("ok", GOOD),
        (Glyphs::Ascii, false) => Item::styled("FAILED", BAD),
    }
}

fn span(microseconds: u128) -> String {
    let time = Duration::from_micros(u64::try_from(microseconds).unwrap_or(u64::MAX));
    if microseconds < 1_000 { format!("{microseconds} us") } else { format!("{:.1} ms", time.as_secs_f64() * 1e3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosis() -> Diagnosis {
        let visible = Examined {
            gpu_id: Some(0),
            nvml_index: Some(1),
            uuid: "GPU-00000000-0000-0000-0000-000000000001".to_owned(),
            pci_bus_id: Some("00000000:66:00.0".to_owned()),
            name: Some("NVIDIA H200".to_owned()),
            total_bytes: Some(ByteSize::new(140 << 30)),
            free_bytes: Some(ByteSize::new(139 << 30)),
            compute_mode: Some("Default".to_owned()),
            is_mig_enabled: Some(false),
            is_mig_instance: false,
            hidden_because: None,
            trial: Some(Trial {
                balloon_bytes: ByteSize::new(64 << 20),
                chunk_bytes: ByteSize::new(16 << 20),
                overhead_bytes: Some(ByteSize::new(263 << 20)),
                context_microseconds: 145_200,
                chunk_microseconds: 152,
                free_to_visible_microseconds: Some(1_030),
            }),
        };
        let hidden = Examined {
            gpu_id: None,
            nvml_index: Some(0),
            hidden_because: Some("CUDA_VISIBLE_DEVICES does not list it".to_owned()),
            trial: None,
            ..visible.clone()
        };
        Diagnosis {
            schema: 1,
            is_healthy: true,
            version: "0.1.0",
            driver_version: Some("570.86.15".to_owned()),
            cuda_version: Some("12.8".to_owned()),
            nvml_version: Some("12.570.86.15".to_owned()),
            visible_devices: Some("1".to_owned()),
            runtime_directory: Some("/run/user/1000/gpu-balloon".to_owned()),
            gpus: vec![hidden, visible],
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }

    const LOOK: Look = Look { columns: Some(80), glyphs: Glyphs::Unicode, colour: false };

    #[test]
    fn a_healthy_machine() {
        let expected = "
gpu-balloon        0.1.0
NVIDIA driver      570.86.15, CUDA 12.8, NVML 12.570.86.15
visible GPUs       CUDA_VISIBLE_DEVICES=1
runtime directory  /run/user/1000/gpu-balloon (closed to other users)

GPU -  NVIDIA H200  nvidia-smi: 0  139.0 GB of 140.0 GB free
  GPU-00000000-0000-0000-0000-000000000001  PCI 00000000:66:00.0
  compute mode Default  MIG off
  not visible: CUDA_VISIBLE_DEVICES does not list it

GPU 0  NVIDIA H200  nvidia-smi: 1  139.0 GB of 140.0 GB free
  GPU-00000000-0000-0000-0000-000000000001  PCI 00000000:66:00.0
  compute mode Default  MIG off
  ✓  64.0 MB held and released  263.0 MB overhead  context in 145.2 ms
    a chunk of 16.0 MB in 152 us  seen free after 1.0 ms

✓  a hold would work
";
        assert_eq!(format!("\n{}", diagnosis().text(LOOK)), expected);
    }

    #[test]
    fn a_machine_without_a_driver() {
        let what = "no usable driver or GPU: libcuda.so.1 cannot be loaded".to_owned();
        let problems = vec![Problem { what, hint: Some("install the NVIDIA driver".to_owned()) }];
        let expected = "
gpu-balloon        0.1.0
NVIDIA driver      not known
visible GPUs       all (CUDA_VISIBLE_DEVICES is not set)
runtime directory  none

✗  no usable driver or GPU: libcuda.so.1 cannot be loaded
   hint: install the NVIDIA driver
";
        let sick = Diagnosis { version: "0.1.0", problems, ..Diagnosis::default() };
        assert_eq!(format!("\n{}", sick.text(Look { columns: Some(60), ..LOOK })), expected);
    }
}
