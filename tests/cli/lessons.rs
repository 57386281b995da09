//! What went wrong in the Python module that came before, each fault with a test that it is none here.

use gpu_sim::{GB, MB};
use rustix::process::Signal;

use crate::harness::{CONTEXT, Machine};

#[test]
fn a_fraction_written_as_text_is_a_fraction() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 0.7");
    assert_eq!(machine.balloon(0, &holder), 16852 * MB, "70 % of 24076 MB, in pages of 2 MB");
}

#[test]
fn negative_and_zero_sizes_are_refused() {
    let machine = Machine::new();
    for size in ["0", "0GB", "0%", "-1", "-2GB", "-0.5", "-10%"] {
        machine.refuses(2, &["--reserve", size], &[]).says(&[size, "write `"]);
    }
}

#[test]
fn short_and_binary_units_are_understood() {
    let machine = Machine::new();
    for size in ["2G", "2GiB", "2g", "2gib", "2 G"] {
        let holder = machine.hold_with(&["--reserve", size], &[]);
        assert_eq!(machine.balloon(0, &holder), 2 * GB, "{size}");
    }
}

#[test]
fn a_shortfall_is_an_error_and_nothing_less_is_held() {
    let machine = Machine::new();
    let _other = machine.hold("--reserve 20GB");
    let failed = machine.run("hold --reserve 10GB").exits(3).says(&["7.0 GB missing"]);
    assert_eq!((failed.stdout.as_str(), machine.used(0)), ("", 20 * GB + CONTEXT));
}

#[test]
fn all_that_is_free_can_be_had() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 100%");
    assert_eq!(machine.balloon(0, &holder), 24 * GB - CONTEXT);
}

#[test]
fn one_gpu_that_fails_means_that_none_is_held() {
    let machine = Machine::new();
    let other = machine.hold("--gpu 1 --reserve all");
    machine.run("hold --gpu 0,1 --reserve 1GB").exits(3).says(&["GPU 1"]);
    assert_eq!((machine.used(0), machine.used_by(1, other.pid())), (0, 24 * GB));
}

#[test]
fn a_share_is_of_each_gpu_s_own_free_memory() {
    let machine = Machine::with(|builder| builder.memory_each([24 * GB, 8 * GB]));
    let holder = machine.hold("--gpu 0,1 --reserve 50%");
    let held = [0, 1].map(|gpu| machine.balloon(gpu, &holder) / MB);
    assert_eq!(held, [12038, 3846]);
}

#[test]
fn shrinking_never_lets_go_of_what_is_kept() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 10GB --name train");
    let before = machine.traced(0);
    machine.run("resize train 4GB").exits(0);
    assert_eq!(machine.balloon(0, &holder), 4 * GB);
    let trace = machine.trace(0, before).expect("the trace is whole");
    let least = trace.iter().filter(|event| event.pid == holder.pid()).map(|event| event.holds).min();
    assert_eq!(least, Some(4 * GB + CONTEXT));
}

#[test]
fn a_growth_that_does_not_fit_leaves_the_balloon_as_it_was() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 10GB --name train");
    let _other = machine.hold("--reserve 8GB");
    machine.run("resize train 20GB").exits(3);
    assert_eq!(machine.balloon(0, &holder), 10 * GB);
    machine.run("resize train +8GB").exits(3);
    assert_eq!(machine.balloon(0, &holder), 10 * GB);
}

#[test]
fn the_same_share_twice_is_the_same_as_once() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 80% --name train");
    let held = machine.balloon(0, &holder);
    for _ in 0..2 {
        machine.run("resize train 80%").exits(0);
        assert_eq!(machine.balloon(0, &holder), held);
    }
}

#[test]
fn numbers_of_visible_devices_are_no_ordinals() {
    let machine = Machine::with(|builder| builder.gpus(4));
    let holder = machine.hold_with(&["--gpu", "0", "--reserve", "1GB"], &[("CUDA_VISIBLE_DEVICES", "2,3")]);
    assert_eq!([0, 1, 2, 3].map(|gpu| machine.used_by(gpu, holder.pid()) > 0), [false, false, true, false]);
    machine.refuses(2, &["--gpu", "2", "--reserve", "1GB"], &[("CUDA_VISIBLE_DEVICES", "2,3")]);
}

#[test]
fn a_chunk_of_no_size_is_refused() {
    let machine = Machine::new();
    machine.refuses(2, &["--reserve", "1GB", "--chunk-size", "0"], &[]).says(&["--chunk-size", "write `1`"]);
}

#[test]
fn asking_for_status_creates_no_context() {
    let machine = Machine::new();
    let holder = machine.hold("--gpu 0 --reserve 2GB");
    let before = [0, 1].map(|gpu| machine.traced(gpu));
    machine.status();
    assert_eq!([0, 1].map(|gpu| machine.traced(gpu)), before, "status touched device memory");
    assert_eq!(machine.processes(0), [(holder.pid(), 2 * GB + CONTEXT)].into());
}

#[test]
fn what_the_context_costs_is_shown_apart() {
    let machine = Machine::new();
    let mut holder = machine.hold("--gpu 0 --reserve 2GB --name train");
    let status = machine.status();
    let gpu = &status["balloons"][0]["gpus"][0];
    assert_eq!((&gpu["allocated_bytes"], &gpu["overhead_bytes"]), (&(2 * GB).into(), &CONTEXT.into()), "{status}");
    holder.signal(Signal::TERM);
    holder.wait().exits(0).says(&["released 2.0 GB"]);
}
