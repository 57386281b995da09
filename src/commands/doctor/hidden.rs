//! Why CUDA does not see a GPU that NVML shows.

use crate::commands::machine::{Machine, Reading};
use crate::gpu::{Cut, Kind, VISIBLE_DEVICES, VisibleDevices};

/// The reason, in words; `None` where CUDA would see it, had it been asked.
pub fn why(machine: &Machine, gpu: &Reading, cuda_was_asked: bool) -> Option<String> {
    let visibility = &machine.visibility;
    if visibility.gpus.iter().any(|visible| visible.known.uuid == gpu.known.uuid) {
        let reason = match gpu.is_mig_enabled {
            Some(true) => "it is split into MIG instances",
            _ => "CUDA leaves it out, though nvidia-smi shows it; see dmesg for the driver's messages",
        };
        return cuda_was_asked.then(|| reason.to_owned());
    }
    Some(match (&visibility.variable, &visibility.cut) {
        (VisibleDevices::Unset, _) if gpu.known.kind == Kind::Instance => {
            format!("a MIG instance is visible only where {VISIBLE_DEVICES} names it")
        }
        (VisibleDevices::Unset, _) => "CUDA leaves it out".to_owned(),
        (VisibleDevices::Listed(list), _) if list.is_empty() => format!("{VISIBLE_DEVICES} is set to nothing"),
        (VisibleDevices::Listed(list), None) => format!("{VISIBLE_DEVICES}={list} does not name it"),
        (VisibleDevices::Listed(list), Some(Cut::Invalid(entry))) => {
            format!("{VISIBLE_DEVICES}={list} does not name it before `{entry}`, which is no GPU and ends the list")
        }
        (VisibleDevices::Listed(list), Some(Cut::Twice(entry))) => {
            format!("{VISIBLE_DEVICES}={list} names `{entry}` twice, which hides every GPU")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{GpuUuid, Known};

    fn machine(list: Option<&str>) -> Machine {
        let known = |number: u8, kind| Known { uuid: GpuUuid([number; 16]), pci_bus_id: String::new(), kind };
        let known = vec![known(0, Kind::Gpu), known(1, Kind::Gpu), known(2, Kind::Instance)];
        let visibility = VisibleDevices::new(list).apply(&known);
        let gpus = known.into_iter().map(Reading::unread).collect();
        Machine { visibility, gpus, unreadable: Vec::new() }
    }

    #[test]
    fn each_reason_is_told() {
        let table = [
            (None, 2, Some("a MIG instance is visible only where CUDA_VISIBLE_DEVICES names it")),
            (Some("0"), 1, Some("CUDA_VISIBLE_DEVICES=0 does not name it")),
            (Some(""), 0, Some("CUDA_VISIBLE_DEVICES is set to nothing")),
            (Some("0,0"), 0, Some("CUDA_VISIBLE_DEVICES=0,0 names `0` twice, which hides every GPU")),
            (
                Some("0,7,1"),
                1,
                Some("CUDA_VISIBLE_DEVICES=0,7,1 does not name it before `7`, which is no GPU and ends the list"),
            ),
            (Some("1"), 1, None),
        ];
        for (list, index, expected) in table {
            let machine = machine(list);
            assert_eq!(why(&machine, &machine.gpus[index], false).as_deref(), expected, "{list:?}");
        }
    }

    #[test]
    fn a_gpu_that_only_cuda_hides() {
        let machine = machine(None);
        let split = Reading { is_mig_enabled: Some(true), ..Reading::unread(machine.gpus[0].known.clone()) };
        assert_eq!(why(&machine, &split, true).as_deref(), Some("it is split into MIG instances"));
        assert!(why(&machine, &machine.gpus[0], true).is_some_and(|why| why.contains("dmesg")));
    }
}
