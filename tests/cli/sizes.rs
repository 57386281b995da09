//! Every spelling of a size, resolved on its own GPU, and every refusal.

use gpu_sim::{GB, MB};
use rustix::process::Signal;

use crate::harness::Machine;

/// GPU 0 has 24 GB, all of them free. GPU 1 has 16 GB, of which others hold 4.
fn uneven() -> (Machine, crate::harness::Running) {
    let machine = Machine::with(|builder| builder.memory_each([24 * GB, 16 * GB]).utilization_each([10, 30]));
    let others = machine.hold("--gpu 1 --reserve 3596MB");
    assert_eq!(machine.used(1), 4 * GB);
    (machine, others)
}

/// What a holder of both GPUs holds there, in MB.
#[track_caller]
fn held(machine: &Machine, spec: &str) -> (u64, u64) {
    let mut holder = machine.hold_with(&["--gpu", "0,1", "--reserve", spec], &[]);
    let held = (machine.balloon(0, &holder) / MB, machine.balloon(1, &holder) / MB);
    holder.signal(Signal::TERM);
    holder.wait().exits(0);
    held
}

#[test]
fn a_size_is_the_same_on_every_gpu() {
    let (machine, _others) = uneven();
    let table = [
        ("2000", 2000),
        ("1", 2),
        ("3", 4),
        ("2GB", 2048),
        ("2.5GB", 2560),
        ("2048MB", 2048),
        ("2G", 2048),
        ("2GiB", 2048),
        ("2g", 2048),
        ("512m", 512),
        ("512 MB", 512),
        ("524288k", 512),
        ("0.001TB", 1050),
        ("1b", 2),
        ("007", 8),
    ];
    for (spec, mb) in table {
        assert_eq!(held(&machine, spec), (mb, mb), "{spec}");
    }
}

#[test]
fn a_terabyte_is_a_size_too() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(2 << 40));
    let holder = machine.hold_with(&["--reserve", "1TB", "--chunk-size", "64GB"], &[]);
    assert_eq!(machine.balloon(0, &holder), 1 << 40);
}

#[test]
fn a_share_is_taken_of_each_gpu_on_its_own() {
    let (machine, _others) = uneven();
    // Free with the contexts in place: 24076 MB and 11788 MB.
    let table = [
        ("50%", (12038, 5894)),
        ("0.5", (12038, 5894)),
        (".5", (12038, 5894)),
        ("12.5%", (3008, 1472)),
        ("1.0", (24076, 11788)),
        ("100%", (24076, 11788)),
        ("all", (24076, 11788)),
        ("ALL", (24076, 11788)),
        ("all-2GB", (22028, 9740)),
        ("all - 2 gb", (22028, 9740)),
        ("all-500", (23576, 11288)),
        // 24576 MB and 16384 MB in all.
        ("40%total", (9832, 6554)),
        ("40 % total", (9832, 6554)),
    ];
    for (spec, mb) in table {
        assert_eq!(held(&machine, spec), mb, "{spec}");
    }
}

#[test]
fn a_share_leaves_no_page_of_the_gpu_free_when_it_is_the_whole() {
    let machine = Machine::new();
    let holder = machine.hold("--reserve 100%");
    assert_eq!(machine.used(0), 24 * GB, "by {}", holder.pid());
}

#[test]
fn auto_goes_by_how_busy_each_gpu_is() {
    let (machine, _others) = uneven();
    assert_eq!(held(&machine, "auto"), (21668, 7072), "90 % of 24076 MB, 60 % of 11788 MB");
    machine.set_utilization(0, 80);
    machine.set_utilization(1, 19);
    assert_eq!(held(&machine, "auto"), (7222, 10608), "30 %, 90 %");
    machine.set_utilization(0, 20);
    machine.set_utilization(1, 50);
    assert_eq!(held(&machine, "auto"), (14444, 3536), "60 %, 30 %");
}

#[test]
fn auto_is_what_a_hold_without_a_size_takes() {
    let machine = Machine::new();
    let holder = machine.hold("--gpu 0");
    assert_eq!(machine.balloon(0, &holder), 21668 * MB);
}

#[test]
fn auto_takes_a_gpu_for_busy_when_nobody_tells() {
    let machine = Machine::with(|builder| builder.without_nvml().utilization_each([0]));
    let holder = machine.hold("--gpu 0 --reserve auto");
    assert_eq!(machine.balloon(0, &holder), 7222 * MB);
}

#[test]
fn a_list_has_a_size_for_each_gpu() {
    let (machine, _others) = uneven();
    let table = [
        ("4GB,2GB", (4096, 2048)),
        ("4GB, 50%", (4096, 5894)),
        ("0=4GB,1=50%", (4096, 5894)),
        ("1=2GB,0=all-2GB", (22028, 2048)),
        ("GPU-a0=4GB,GPU-b1=2GB", (4096, 2048)),
        ("17:00.0=4GB,0000:31:00.0=2GB", (4096, 2048)),
        ("auto,1GB", (21668, 1024)),
    ];
    for (spec, mb) in table {
        assert_eq!(held(&machine, spec), mb, "{spec}");
    }
}

#[test]
fn a_list_follows_the_order_in_which_the_gpus_are_named() {
    let (machine, _others) = uneven();
    let holder = machine.hold("--gpu 1 --gpu 0 --reserve 4GB,2GB");
    assert_eq!((machine.balloon(0, &holder), machine.balloon(1, &holder)), (2 * GB, 4 * GB));
}

#[test]
fn what_is_no_size_is_refused_with_the_nearest_that_is_one() {
    let machine = Machine::new();
    let table = [
        ("", "write for example `2GB`, `50%` or `all`"),
        ("0", "write `1`"),
        ("0GB", "write `1GB`"),
        ("0%", "write `1%`"),
        ("0.0", "write `0.01`"),
        ("-1", "write `1`"),
        ("-2GB", "write `2GB`"),
        ("-50%", "write `50%`"),
        ("+2GB", "write `2GB`"),
        ("inf", "write `2GB`"),
        ("nan", "write `2GB`"),
        ("2.5", "write `2.5GB` or `2.5%`"),
        ("1e3", "write `1000`"),
        ("0x10", "write `"),
        ("2XB", "write `2GB`"),
        ("lots", "write `"),
        ("101%", "write `100%`"),
        ("101%total", "write `100%total`"),
        ("99999999999999999999", "write `all`"),
        ("99999999999TB", "write `all`"),
        ("all-0", "write `all`"),
        ("all-50%", "write `50%`"),
        ("2GB,", "write `2GB`"),
        ("0=1GB,2GB", "write `GPU=SIZE` for each or for none"),
        // What only the machine tells.
        ("25GB", "write `all` or at most `24576MB`"),
        ("1TB", "write `all` or at most `24576MB`"),
        ("all-25GB", "at most `all-24576MB`"),
        ("1GB,2GB,3GB", "write one for all or `1GB,2GB`"),
        ("0=1GB", "write `0=1GB,1=1GB`"),
        ("0=1GB,7=2GB", "write `0=2GB,1=2GB`"),
        ("0=1GB,0=2GB,1=1GB", "keep one of `0=1GB` and `0=2GB`"),
    ];
    for (spec, nearest) in table {
        let said = machine.refuses(2, &["--gpu", "0,1", "--reserve", spec], &[]);
        assert!(said.stderr.contains(spec) && said.stderr.contains(nearest), "{spec}: {}", said.stderr);
    }
    machine.refuses(2, &["--reserve", "1GB,2GB"], &[]).says(&["2 sizes for 1 GPU; write one for all or `1GB`"]);
}

#[test]
fn a_chunk_size_is_a_size() {
    let machine = Machine::new();
    for (size, nearest) in [("0", "`1`"), ("-5MB", "`5MB`"), ("50%", "`100MB`"), ("big", "`2GB`"), ("1.5", "`1.5GB`")] {
        let said = machine.refuses(2, &["--reserve", "1GB", "--chunk-size", size], &[]);
        let said = said.says(&["--chunk-size", size, nearest]);
        assert!(!said.stderr.contains("`1.5%`"), "a share is no better: {}", said.stderr);
    }
}

#[test]
fn a_size_that_fits_the_gpu_but_not_what_is_free_is_no_usage_error() {
    let (machine, _others) = uneven();
    machine
        .run("hold --gpu 1 --reserve 80%total")
        .exits(3)
        .says(&["GPU 1: 12.8 GB wanted, 11.5 GB free, 1.3 GB missing"]);
    machine.run("hold --gpu 1 --reserve 13GB").exits(3).says(&["GPU 1: 13.0 GB wanted, 11.5 GB free, 1.5 GB missing"]);
}

#[test]
fn what_all_but_leaves_to_others_is_theirs() {
    let (machine, _others) = uneven();
    let failed = machine.run("hold --gpu 1 --reserve all-12GB").exits(3);
    failed.says(&["GPU 1: 12.0 GB wanted, 11.5 GB free"]);
    assert_eq!(machine.used(1), 4 * GB);
}
