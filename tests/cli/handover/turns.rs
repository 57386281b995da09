//! Whose turn it is, asked for as the library does, by a process of the job that may be stopped at any point.

use std::os::fd::OwnedFd;
use std::time::Duration;

use gpu_sim::GB;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::balloon;
use crate::harness::{CONTEXT, DEADLINE, Machine};

/// As the protocol numbers them.
const NEED: u32 = 2;
const READY: u32 = 4;
const LEND: u32 = 5;
const NO: u32 = 0;
const YES: u32 = 1;
const PATIENT: u32 = 2;
const BEGINS: u32 = 3;

struct Process {
    socket: OwnedFd,
    gpu: [u8; 16],
}

impl Process {
    fn connect(machine: &Machine) -> Self {
        let name = machine.registered().into_iter().find(|name| name.ends_with(".job")).expect("a holder that listens");
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(machine.registry().join(name)).unwrap()).unwrap();
        let uuid = machine.status()["gpus"][0]["uuid"].as_str().unwrap().trim_start_matches("GPU-").replace('-', "");
        let gpu = u128::from_str_radix(&uuid, 16).unwrap().to_be_bytes();
        Self { socket, gpu }
    }

    fn says(&self, kind: u32) {
        let mut request = Vec::new();
        request.extend(kind.to_ne_bytes());
        request.extend(0_u32.to_ne_bytes());
        request.extend(GB.to_ne_bytes());
        request.extend(self.gpu);
        request.extend([0; 16]);
        rustix::net::send(&self.socket, &request, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next answer that is not there to reassure.
    #[track_caller]
    fn hears(&self) -> u32 {
        loop {
            let timeout = Timespec { tv_sec: DEADLINE.as_secs().cast_signed(), tv_nsec: 0 };
            let heard = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout));
            assert_eq!(heard, Ok(1), "no answer within {:?}", Duration::from_secs(DEADLINE.as_secs()));
            let mut answer = [0; 64];
            rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty()).unwrap();
            match u32::from_ne_bytes(answer[..4].try_into().unwrap()) {
                PATIENT => {}
                answer => return answer,
            }
        }
    }
}

#[test]
fn who_comes_too_late_for_its_turn_gets_another() {
    let machine = Machine::with(|builder| builder.gpus(1).memory(8 * GB));
    let mut job = machine.job("--gpu 0 --reserve 6GB");
    job.must("pid");
    let _others = machine.occupy(0, 8 * GB - machine.used(0));
    let (stopped, next) = (Process::connect(&machine), Process::connect(&machine));
    stopped.says(NEED);
    assert_eq!(stopped.hears(), BEGINS);
    next.says(NEED);
    assert_eq!(next.hears(), BEGINS, "after a while");
    stopped.says(READY);
    next.says(READY);
    assert_eq!(next.hears(), YES);
    assert!(balloon(&machine, 0, &job) < 6 * GB - CONTEXT, "way was given");
    drop(next);
    assert_eq!(stopped.hears(), BEGINS);
    stopped.says(READY);
    assert_eq!(stopped.hears(), YES);
}

#[test]
fn who_has_not_said_hello_borrows_nothing() {
    let machine = Machine::new();
    let mut job = machine.job("--gpu 0 --reserve 6GB --handover vmm");
    job.must("pid");
    let stranger = Process::connect(&machine);
    stranger.says(LEND);
    assert_eq!(stranger.hears(), NO, "its end would go unnoticed");
    assert_eq!(machine.status()["balloons"][0]["gpus"][0]["handed_over_bytes"], 0);
}
