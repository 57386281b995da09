//! `--greedy`: growing as others leave.

use super::*;

#[test]
fn it_takes_what_is_free_and_grows_to_the_whole() {
    let machine = Machine::new();
    let hog = machine.hog(0, 10 * GB);
    let mut job = machine.client();
    job.must("ctx 0");
    let id = job.must("alloc 4GB");
    let mut greedy = Running::start(&mut machine.program("hold --reserve 20GB --greedy --name grows"));
    let pid = greedy.pid();
    machine.wait_for("it takes what there is", |state| state.used_by(0, pid) == 10 * GB - 2 * CONTEXT);
    let seen = balloon(&machine, pid).unwrap();
    assert_eq!(seen["gpus"][0]["target_bytes"], 20 * GB);
    assert_eq!(seen["gpus"][0]["is_inflated"], false);
    job.must(&format!("free {id}"));
    machine.wait_for("it grows", |state| state.used_by(0, pid) == 14 * GB - 2 * CONTEXT);
    assert!(greedy.is_silent());
    drop(job);
    let time = time_to_ready(&mut greedy, || drop(hog));
    assert!(time <= PROMPT, "{time:?}");
    assert_eq!(machine.used_by(0, pid), 20 * GB + CONTEXT);
    assert_eq!(balloon(&machine, pid).unwrap()["gpus"][0]["is_inflated"], true);
}

#[test]
fn two_that_want_both_gpus_finish_one_after_the_other() {
    let machine = Machine::new();
    let mut others = [0, 1].map(|gpu| Some(machine.hog(gpu, 16 * GB)));
    let line = "hold --gpu 0,1 --reserve 18GB --greedy";
    let mut pair = [(); 2].map(|()| {
        let greedy = Running::start(&mut machine.program(line));
        let pid = greedy.pid();
        until("it is in line", || balloon(&machine, pid).is_some_and(|balloon| balloon["state"] == "waiting"));
        greedy
    });
    let [first, second] = &mut pair;
    others[1] = None;
    machine.wait_for("the first takes there", |state| state.used_by(1, first.pid()) == 18 * GB + CONTEXT);
    others[0] = None;
    assert!(first.line().starts_with("ready "));
    assert!(second.is_silent());
    first.signal(Signal::TERM);
    first.wait().exits(0);
    assert!(second.line().starts_with("ready "));
}

#[test]
fn at_the_deadline_everything_is_given_back_or_kept_by_best_effort() {
    let machine = Machine::new();
    let _hog = machine.hog(0, 10 * GB);
    let failed = machine.run("hold --gpu 0,1 --reserve 20GB --greedy --wait=1s").exits(3);
    failed.says(&["GPU 0: 20.0 GB wanted, 13.0 GB free, 7.0 GB missing", "hint:"]);
    assert_eq!((machine.used(0), machine.used(1)), (10 * GB + CONTEXT, 0));
    let mut kept =
        Running::start(&mut machine.program("hold --gpu 0,1 --reserve 20GB --greedy --wait=1s --best-effort"));
    assert!(kept.line().ends_with(&format!("held={}", 34 * GB - 2 * CONTEXT)));
    kept.signal(Signal::TERM);
    kept.wait().exits(0).says(&["holding less than asked: GPU 0: 20.0 GB wanted", "released 33.0 GB"]);
    line_is_empty(&machine);
}

#[test]
fn a_signal_gives_back_what_was_taken() {
    let machine = Machine::new();
    let _hog = machine.hog(0, 10 * GB);
    let mut greedy = Running::start(&mut machine.program("hold --reserve 20GB --greedy"));
    let pid = greedy.pid();
    machine.wait_for("it takes what there is", |state| state.used_by(0, pid) > 13 * GB);
    greedy.signal(Signal::INT);
    greedy.wait().exits(130);
    assert_eq!(machine.used(0), 10 * GB + CONTEXT);
}

#[test]
fn it_gives_back_what_one_ahead_lacks_because_of_a_third() {
    let machine = Machine::new();
    let full = machine.hog(1, 20 * GB);
    let mut first = wait(&machine, "--gpu 0,1 --reserve 10GB --wait");
    let mut greedy = Running::start(&mut machine.program("hold --gpu 0,1 --reserve 12GB,20GB --greedy"));
    let pid = greedy.pid();
    machine.wait_for("it takes what the first leaves", |state| state.used_by(0, pid) == 12 * GB + CONTEXT);
    let _third = machine.hog(0, 8 * GB);
    drop(full);
    // Each has what the other lacks, on one of the GPUs.
    assert!(first.line().starts_with("ready "));
    assert!(greedy.is_silent());
    first.signal(Signal::TERM);
    assert!(greedy.line().starts_with("ready "));
}

#[test]
fn of_any_it_takes_the_most_free() {
    let machine = Machine::new();
    let _hog = machine.hog(0, 10 * GB);
    let last = machine.hog(1, 8 * GB);
    let mut greedy = Running::start(&mut machine.program("hold --gpu any:1 --reserve 20GB --greedy"));
    let pid = greedy.pid();
    machine.wait_for("it takes there", |state| state.used_by(1, pid) > 15 * GB);
    drop(last);
    assert!(greedy.line().contains("gpus=1 "));
}
