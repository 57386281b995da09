//! Which GPUs a hold is on: however they are named, and whatever the environment shows.

use gpu_sim::{GB, MB};
use rustix::process::Signal;

use crate::harness::Machine;

const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";
const ORDER: &str = "CUDA_DEVICE_ORDER";

/// Four GPUs that CUDA would number 2, 0, 3, 1 by speed.
fn four() -> Machine {
    Machine::with(|builder| builder.gpus(4).fastest_first([2, 0, 3, 1]))
}

/// The machine's GPUs that a hold takes memory on, and what its ready line calls them.
#[track_caller]
fn chosen(machine: &Machine, gpus: &[&str], variables: &[(&str, &str)]) -> (Vec<usize>, String) {
    let mut arguments = vec!["--reserve", "1GB"];
    arguments.extend(gpus.iter().flat_map(|gpu| ["--gpu", gpu]));
    let mut holder = machine.hold_with(&arguments, variables);
    let held = (0..4).filter(|&gpu| machine.used_by(gpu, holder.pid()) > 0).collect();
    assert_eq!(machine.contexts_of(0, holder.pid()) > 0, machine.used_by(0, holder.pid()) > 0);
    holder.signal(Signal::TERM);
    let said = holder.wait().exits(0).stdout;
    let called = said.split_once("gpus=").and_then(|(_, rest)| rest.split_once(' ')).map(|(gpus, _)| gpus.to_owned());
    (held, called.unwrap_or_default())
}

#[test]
fn a_gpu_is_named_by_index_range_uuid_and_bus() {
    let machine = four();
    let uuid = machine.uuid_text(3);
    let table: [(&[&str], &[usize], &str); 14] = [
        (&[], &[0], "0"),
        (&["2"], &[2], "2"),
        (&["0,2"], &[0, 2], "0,2"),
        (&["2,0"], &[0, 2], "2,0"),
        (&["1-3"], &[1, 2, 3], "1,2,3"),
        (&["0,2-3"], &[0, 2, 3], "0,2,3"),
        (&["all"], &[0, 1, 2, 3], "0,1,2,3"),
        (&["3", "1"], &[1, 3], "3,1"),
        (&["GPU-c2"], &[2], "2"),
        (&["gpu-C2"], &[2], "2"),
        (&[&uuid], &[3], "3"),
        (&["31:00.0"], &[1], "1"),
        (&["0000:31:00.0"], &[1], "1"),
        (&["00000000:4B:00.0,0"], &[0, 2], "2,0"),
    ];
    for (named, held, called) in table {
        assert_eq!(chosen(&machine, named, &[]), (held.to_vec(), called.to_owned()), "{named:?}");
    }
}

#[test]
fn indices_count_within_the_visible_devices() {
    let machine = four();
    let (two, three) = (machine.uuid_text(2), machine.uuid_text(3));
    let uuids = format!("{three},{two}");
    let table: [(&str, &[&str], &[usize], &str); 12] = [
        ("2,3", &["0"], &[2], "0"),
        ("2,3", &["1"], &[3], "1"),
        ("3,0", &["0"], &[3], "0"),
        // Without --gpu: all that is visible.
        ("2,3", &[], &[2, 3], "0,1"),
        ("1", &[], &[1], "0"),
        (&uuids, &[], &[2, 3], "0,1"),
        (&uuids, &["0"], &[3], "0"),
        ("GPU-b1", &["0"], &[1], "0"),
        // -1 ends the list, as any invalid entry does.
        ("1,-1,0", &["all"], &[1], "0"),
        ("0,7,1", &[], &[0], "0"),
        // By identity, whatever number the variable gives.
        ("2,3", &["GPU-d3"], &[3], "1"),
        ("3,2", &["4b:00.0"], &[2], "1"),
    ];
    for (variable, named, held, called) in table {
        let found = chosen(&machine, named, &[(VISIBLE, variable)]);
        assert_eq!(found, (held.to_vec(), called.to_owned()), "{variable} {named:?}");
    }
}

#[test]
fn the_environment_s_device_order_moves_nothing() {
    let machine = four();
    for order in ["FASTEST_FIRST", "PCI_BUS_ID", "nonsense"] {
        assert_eq!(chosen(&machine, &["1"], &[(ORDER, order)]), (vec![1], "1".to_owned()), "{order}");
        assert_eq!(chosen(&machine, &["0"], &[(ORDER, order), (VISIBLE, "3,1")]), (vec![3], "0".to_owned()));
    }
}

#[test]
fn what_is_not_visible_is_refused_with_what_is() {
    let machine = four();
    let hidden = machine.uuid_text(0);
    let table: [(Option<&str>, &str, &[&str]); 12] = [
        (None, "4", &["GPU 4 is not visible", "visible are 0,1,2,3"]),
        (None, "2-5", &["GPU 4 in `2-5` is not visible", "visible are 0,1,2,3"]),
        (None, "GPU-ee", &["`GPU-ee` is no GPU of this machine"]),
        (None, "ff:00.0", &["`ff:00.0` is no GPU of this machine"]),
        (Some("2,3"), "2", &["GPU 2 is not visible", "visible are 0,1 (CUDA_VISIBLE_DEVICES=2,3)", "is `0` here"]),
        (Some("2,3"), &hidden, &["is hidden", "visible are 0,1 (CUDA_VISIBLE_DEVICES=2,3)"]),
        (Some("1,-1,0"), "1", &["GPU 1 is not visible", "visible are 0 (CUDA_VISIBLE_DEVICES=1,-1,0)"]),
        (None, "GPU-", &["`GPU-` is not a GPU", "write an index"]),
        (None, "", &["`` is not a GPU", "write an index"]),
        (None, "first", &["`first` is not a GPU", "write an index"]),
        (None, "3-1", &["`3-1` is a range from high to low; write `1-3`"]),
        (None, "1,GPU-b1", &["GPU 1 is chosen twice, by `1` and by `GPU-b1`"]),
    ];
    for (variable, named, says) in table {
        let variables: Vec<(&str, &str)> = variable.map(|list| (VISIBLE, list)).into_iter().collect();
        machine.refuses(2, &["--reserve", "1GB", "--gpu", named], &variables).says(says);
    }
}

#[test]
fn a_variable_that_hides_every_gpu_is_named() {
    let machine = four();
    for list in ["", "-1", "NoDevFiles", "9", "0,1,0", "GPU-ee"] {
        for gpu in [&["--gpu", "0"][..], &[]] {
            machine.refuses(4, gpu, &[(VISIBLE, list)]).says(&["no usable driver or GPU", VISIBLE, "hint: "]);
        }
    }
}

#[test]
fn utilization_is_read_of_the_gpu_itself_and_not_of_its_number() {
    let machine = four();
    for (gpu, percent) in [(0, 90), (1, 30), (2, 10), (3, 0)] {
        machine.set_utilization(gpu, percent);
    }
    let holder = machine.hold_with(&["--reserve", "auto"], &[(VISIBLE, "2,1,0"), (ORDER, "FASTEST_FIRST")]);
    let held = [0, 1, 2].map(|gpu| machine.balloon(gpu, &holder) / MB);
    assert_eq!(held, [7222, 14444, 21668], "30 %, 60 % and 90 % of 24076 MB");
}

#[test]
fn without_nvml_the_gpus_are_the_same() {
    let machine = Machine::with(|builder| builder.gpus(4).fastest_first([2, 0, 3, 1]).without_nvml());
    assert_eq!(chosen(&machine, &["1"], &[(VISIBLE, "3,2")]), (vec![2], "1".to_owned()));
    assert_eq!(chosen(&machine, &["GPU-d3"], &[(VISIBLE, "3,2")]), (vec![3], "0".to_owned()));
    machine.refuses(2, &["--gpu", "2"], &[(VISIBLE, "3,2")]).says(&["visible are 0,1 (CUDA_VISIBLE_DEVICES=3,2)"]);
    machine.refuses(4, &[], &[(VISIBLE, "")]).says(&["CUDA_VISIBLE_DEVICES", "hint: "]);
}

#[test]
fn the_ready_line_of_json_has_the_uuids() {
    let machine = four();
    let mut holder = machine.hold("--gpu 3,1 --reserve 1GB --json --name pair");
    holder.signal(Signal::TERM);
    let said: serde_json::Value = serde_json::from_str(&holder.wait().exits(0).stdout).expect("one object");
    let expected = serde_json::json!({
        "name": "pair", "pid": holder.pid(), "gpus": [3, 1], "held": 2 * GB,
        "uuids": [machine.uuid_text(3), machine.uuid_text(1)],
    });
    assert_eq!(said, expected);
}
