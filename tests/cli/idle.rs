//! A holder that holds sleeps: no call of the driver, no time of a CPU, no waking up.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use gpu_sim::{Family, GB};

use crate::harness::{Machine, Running};

/// What a thread has done so far: its voluntary switches, and its ticks of a CPU.
type Work = BTreeMap<String, (u64, u64)>;

/// `None` while one of its threads is not asleep.
fn work(pid: u32) -> Option<Work> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    tasks
        .map(|task| {
            let path = task.expect("a thread").path();
            let stat = fs::read_to_string(path.join("stat")).ok()?;
            let (_, fields) = stat.rsplit_once(')')?;
            let fields: Vec<&str> = fields.split_whitespace().collect();
            let ticks = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
            let status = fs::read_to_string(path.join("status")).ok()?;
            let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            let name = path.file_name()?.to_str()?.to_owned();
            (fields[0] == "S").then_some((name, (switches.trim().parse().ok()?, ticks)))
        })
        .collect()
}

/// Waits until it has gone to sleep after its start.
fn asleep(machine: &Machine, holder: &Running) -> Work {
    let mut last = None;
    machine.wait_for("a holder asleep", |_| {
        let now = work(holder.pid());
        let settled = now.is_some() && now == last;
        last = now;
        settled
    });
    last.expect("it sleeps")
}

#[test]
fn a_holder_sleeps_while_others_work() {
    let machine = Machine::with(|builder| builder.gpus(3));
    let holder = machine.hold("--gpu 0,1 --reserve 2GB --timeout 1h");
    let (before, calls) = (asleep(&machine, &holder), machine.all_calls(holder.pid()));
    // Takes a second.
    machine.set_delay(Family::Alloc, Duration::from_millis(10));
    machine.hold("--gpu 2 --reserve 10000MB");
    assert_eq!(work(holder.pid()), Some(before));
    assert_eq!(machine.all_calls(holder.pid()), calls);
    assert_eq!(machine.balloon(0, &holder), 2 * GB);
}

#[test]
fn a_question_wakes_it_and_it_answers_without_the_driver() {
    let machine = Machine::new();
    let holder = machine.hold("--gpu 0,1 --reserve 2GB");
    let (before, calls) = (asleep(&machine, &holder), machine.all_calls(holder.pid()));
    assert_eq!(machine.status()["balloons"][0]["gpus"][0]["allocated_bytes"], 2 * GB);
    let after = asleep(&machine, &holder);
    let woken: Vec<&String> =
        after.iter().filter(|(task, work)| before[*task] != **work).map(|(task, _)| task).collect();
    assert_eq!(woken, [&holder.pid().to_string()], "the main thread alone");
    assert_eq!(machine.all_calls(holder.pid()), calls);
}
