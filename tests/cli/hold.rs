//! `hold`: what it takes, when it says so, and how it ends.

use gpu_sim::GB;
use rustix::process::Signal;

use crate::harness::{CONTEXT, Machine};

#[test]
fn it_holds_until_a_signal_and_gives_everything_back() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let machine = Machine::new();
        let mut holder = machine.hold("--gpu 0,1 --reserve 2GB");
        for gpu in [0, 1] {
            assert_eq!(machine.used_by(gpu, holder.pid()), 2 * GB + CONTEXT);
        }
        holder.signal(signal);
        holder.wait().exits(0).says(&["released 4.0 GB"]);
        assert_eq!((machine.used(0), machine.used(1)), (0, 0));
    }
}

#[test]
fn the_ready_line_tells_name_pid_gpus_and_bytes() {
    let machine = Machine::new();
    let mut holder = machine.hold("--gpu 0,1 --reserve 2GB --name train");
    let pid = holder.pid();
    holder.signal(Signal::TERM);
    let said = holder.wait().exits(0);
    assert_eq!(said.stdout, format!("ready name=train pid={pid} gpus=0,1 held=4294967296\n"));
}

#[test]
fn one_gpu_short_means_none_is_held() {
    let machine = Machine::new();
    let other = machine.hold("--gpu 1 --reserve 20GB");
    let failed = machine.run("hold --gpu 0,1 --reserve 10GB").exits(3);
    let in_the_way = format!("GPU 1: pid {} holds 20.5 GB", other.pid());
    failed.says(&["GPU 1: 10.0 GB wanted, 3.0 GB free, 7.0 GB missing", &in_the_way, "hint:"]);
    assert_eq!((machine.used(0), machine.used(1)), (0, 20 * GB + CONTEXT));
}
