//! 32 waiters at a time, of random size on four GPUs, that come, hold, go and are killed at random.

use std::sync::Mutex;

use super::*;

const WAITERS: u64 = 32;
const GPUS: u64 = 4;
const MEMORY: u64 = 24 * GB;

/// Two that want more than this of a GPU cannot hold it at the same time.
const HALF: u64 = MEMORY / 2;

/// Where the random numbers start; each run does the same as far as the machine lets it.
const SEED: u64 = 0x5EED;

#[test]
fn many_for_a_short_time() {
    crowd(Duration::from_secs(5));
}

#[test]
#[ignore = "takes a minute"]
fn many_for_a_minute() {
    crowd(Duration::from_secs(60));
}

/// A holder that got its memory.
#[derive(Debug)]
struct Served {
    /// Of its ticket.
    number: u64,
    gpus: Vec<u64>,
    size: u64,
    waited: Duration,
    ready: Instant,
}

/// Numbers without order (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn milliseconds(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

fn crowd(time: Duration) {
    let machine = Machine::with(|builder| builder.gpus(GPUS as usize).memory(MEMORY));
    let served = Mutex::new(Vec::new());
    let end = Instant::now() + time;
    std::thread::scope(|scope| {
        for waiter in 0..WAITERS {
            let (machine, served) = (&machine, &served);
            scope.spawn(move || {
                let mut random = Random(SEED + waiter);
                while Instant::now() < end {
                    let one = come_and_go(machine, &mut random);
                    served.lock().unwrap().extend(one);
                }
            });
        }
    });
    let served = served.into_inner().unwrap();
    let longest = served.iter().map(|one| one.waited).max().unwrap();
    measured(format_args!("{} served; the longest wait was {longest:?}", served.len()));
    assert!(served.len() as u64 > WAITERS, "hardly anybody got anything");
    order_is_kept(&served);
    for gpu in 0..GPUS as usize {
        assert_eq!(machine.used(gpu), 0, "memory is left on GPU {gpu}");
        assert!(machine.peak(gpu) <= MEMORY);
    }
    // Looking clears away what the killed ones have left.
    assert_eq!(machine.status()["balloons"], serde_json::json!([]));
    until("what was half written is cleared", || {
        machine.run("hold --reserve 1GB --wait --timeout 1ms").exits(0);
        files_in_line(&machine).iter().all(|name| !name.ends_with(".draft"))
    });
    line_is_empty(&machine);
}

/// One holder from its start to its end. Nothing, if it was killed while it waited.
fn come_and_go(machine: &Machine, random: &mut Random) -> Option<Served> {
    let size = (1 + random.below(22)) * GB;
    let first = random.below(GPUS);
    let gpus = match random.below(4) {
        0 => format!("any:{}", 1 + random.below(2)),
        1 => format!("{first},{}", (first + 1 + random.below(GPUS - 1)) % GPUS),
        _ => first.to_string(),
    };
    let greedy = if random.below(8) == 0 { "--greedy" } else { "" };
    let options = format!("-v hold --gpu {gpus} --reserve {}GB --chunk-size 1GB --wait {greedy}", size / GB);
    let begin = Instant::now();
    let mut holder = Running::start(&mut machine.program(&options));
    let patience = if random.below(6) == 0 { random.milliseconds(1000) } else { DEADLINE };
    let Some(ready) = holder.line_within(patience) else {
        assert!(
            patience < DEADLINE,
            "{options} has waited in vain
{}",
            everything(machine)
        );
        holder.signal(if random.below(2) == 0 { Signal::KILL } else { Signal::TERM });
        holder.wait();
        return None;
    };
    let (waited, at) = (begin.elapsed(), Instant::now());
    let gpus = ready.split_once("gpus=").unwrap().1.split_once(' ').unwrap().0.split(',');
    let gpus: Vec<u64> = gpus.map(|gpu| gpu.parse().unwrap()).collect();
    for gpu in &gpus {
        assert_eq!(machine.used_by(*gpu as usize, holder.pid()), size + CONTEXT, "{ready}");
    }
    let _ = holder.line_within(random.milliseconds(300));
    holder.signal(if random.below(3) == 0 { Signal::KILL } else { Signal::TERM });
    let ended = holder.wait();
    assert!(matches!(ended.code(), 0 | 137), "{options}: {} {}", ended.code(), ended.stderr);
    let Some((_, number)) = ended.stderr.split_once("number=") else { panic!("{options}: {}", ended.stderr) };
    let number = number.split_whitespace().next().unwrap().parse().unwrap();
    // For any GPU the order is not the order on one of them.
    let gpus = if options.contains("any") { Vec::new() } else { gpus };
    Some(Served { number, gpus, size, waited, ready: at })
}

/// What can be seen of the line and the memory.
fn everything(machine: &Machine) -> String {
    let line = machine.registry().join("line");
    let tickets = files_in_line(machine).into_iter().map(|name| {
        let ticket = std::fs::read_to_string(line.join(&name)).unwrap_or_default();
        format!("{name} {ticket}\n")
    });
    machine.run("status").stdout + &tickets.collect::<String>()
}

/// Of two that cannot hold a GPU at the same time, the one with the lower number was served first.
#[track_caller]
fn order_is_kept(served: &[Served]) {
    let mut compared = 0;
    for gpu in 0..GPUS {
        let mut large: Vec<&Served> = served.iter().filter(|one| one.size > HALF && one.gpus.contains(&gpu)).collect();
        large.sort_by_key(|one| one.number);
        for pair in large.windows(2) {
            compared += 1;
            assert!(pair[0].ready < pair[1].ready, "{pair:?} on GPU {gpu}");
        }
    }
    measured(format_args!("{compared} pairs in order"));
    assert!(compared > 0);
}
