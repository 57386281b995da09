//! NVML, nvidia-smi, PyTorch and `status` say the same of what is held and free.

use crate::machine::{GB, MB, Machine, Running, UNACCOUNTED, assert_near, skip};

/// PyTorch in a context of its own says what it sees as free, and keeps the context until standard input ends.
const TORCH: &str = "\
import sys, torch
torch.cuda.init()
torch.empty(1, device='cuda')
print(*torch.cuda.mem_get_info(0), flush=True)
sys.stdin.read()";

#[test]
#[ignore = "needs a GPU"]
fn nvidia_smi_shows_what_is_held_and_by_whom() {
    let machine = Machine::new();
    let (holder, _) = machine.hold("--gpu 0 --reserve 2GB");
    let query = ["--id=0", "--query-gpu=memory.free,memory.used,memory.total", "--format=csv,noheader,nounits"];
    let Some(said) = machine.asked("nvidia-smi", &query) else { return };
    let figures: Vec<u64> = said.split(", ").map(|figure| figure.parse().expect("MiB")).collect();
    assert_near(figures[0], machine.free(0) / MB, 1);

    let gpu = &machine.status()["gpus"][0];
    for (figure, name) in figures.iter().zip(["free_bytes", "used_bytes", "total_bytes"]) {
        assert_near(*figure, gpu[name].as_u64().unwrap() / MB, 1);
    }

    let query = ["--id=0", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"];
    let Some(said) = machine.asked("nvidia-smi", &query) else { return };
    let line = said.lines().find(|line| line.starts_with(&format!("{}, ", holder.pid())));
    let (_, used) = line.unwrap_or_else(|| panic!("{said}")).split_once(", ").unwrap();
    let part = &machine.status()["balloons"][0]["gpus"][0];
    let held = ["allocated_bytes", "overhead_bytes"].map(|name| part[name].as_u64().unwrap());
    assert_near(used.parse().unwrap(), (held[0] + held[1]) / MB, UNACCOUNTED / MB);
}

#[test]
#[ignore = "needs a GPU"]
fn torch_sees_as_free_what_nvml_shows() {
    let machine = Machine::new();
    let installed = machine
        .command("python3")
        .args(["-c", "import importlib.util as util, sys; sys.exit(util.find_spec('torch') is None)"])
        .output();
    if !installed.is_ok_and(|import| import.status.success()) {
        skip("PyTorch");
        return;
    }
    let (_holder, _) = machine.hold("--gpu 0 --reserve 2GB");
    let alone = machine.free(0);
    let mut torch = Running::start(machine.command("python3").args(["-c", TORCH]));
    let said = torch.line();
    let (free, total) = said.split_once(' ').expect("two figures");
    assert_eq!(free.parse::<u64>().unwrap(), machine.free(0));
    assert!(total.parse::<u64>().unwrap() <= machine.total(0));
    torch.close_stdin();
    torch.wait();
    machine.wait_for_free(0, alone);
    let status = machine.status();
    assert_eq!(status["gpus"][0]["free_bytes"], machine.free(0));
    assert_eq!(status["gpus"][0]["balloon_bytes"], 2 * GB);
}
