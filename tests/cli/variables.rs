//! The variables that stand for options.

use gpu_sim::GB;

use crate::harness::{Machine, Running};

fn hold(machine: &Machine, variables: &[(&str, &str)], line: &str) -> String {
    let mut command = machine.program(&format!("hold --timeout 10ms {line}"));
    command.envs(variables.iter().copied());
    Running::start(&mut command).wait().exits(0).stdout
}

#[test]
fn they_stand_for_options_and_options_outdo_them() {
    let machine = Machine::new();
    let variables = [("GPU_BALLOON_GPU", "1"), ("GPU_BALLOON_RESERVE", "3GB"), ("GPU_BALLOON_NAME", "mine")];
    assert!(hold(&machine, &variables, "").ends_with(&format!("gpus=1 held={}\n", 3 * GB)));
    assert!(hold(&machine, &variables, "--gpu 0 --reserve 1GB").ends_with(&format!("gpus=0 held={GB}\n")));
}

#[test]
fn a_switch_is_on_unless_it_says_no() {
    let machine = Machine::new();
    for (value, is_on) in [("1", true), ("true", true), ("yes", true), ("0", false), ("false", false), ("", false)] {
        let said = hold(&machine, &[("GPU_BALLOON_JSON", value)], "--reserve 1GB");
        assert_eq!(said.starts_with('{'), is_on, "GPU_BALLOON_JSON={value}: {said}");
    }
}

#[test]
fn an_empty_one_says_nothing() {
    let machine = Machine::new();
    let variables = [("GPU_BALLOON_GPU", ""), ("GPU_BALLOON_RESERVE", ""), ("GPU_BALLOON_WAIT", "")];
    assert!(hold(&machine, &variables, "").contains(" gpus=0 held="));
}
