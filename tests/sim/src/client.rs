//! A job under a script: reads requests on stdin, answers each with one line, `ok ...` or `error CODE NAME`.
//!
//! | request | answer |
//! |---|---|
//! | `ctx GPU` | makes the GPU's primary context current |
//! | `release GPU` | gives the context back |
//! | `alloc SIZE`, `managed SIZE`, `pitch WIDTH HEIGHT`, `async SIZE` | an id |
//! | `create GPU SIZE` | an id of physical memory |
//! | `export ID`, `import PID FD` | a descriptor; an id |
//! | `many COUNT SIZE` | allocates and keeps; time per call |
//! | `churn COUNT SIZE` | allocates and frees; time per pair |
//! | `free ID`, `sync`, `info`, `pid` | |
//! | `exit CODE`, `crash` | ends, without an answer |

use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use anyhow::{Context as _, anyhow};

use crate::cli::Client;
use crate::cuda::{Cuda, Failed};
use crate::parse::bytes;

/// What a request came to.
enum Answer {
    Done(String),
    Failed(Failed),
    Exit(i32),
}

impl<T: ToString> From<Result<T, Failed>> for Answer {
    fn from(result: Result<T, Failed>) -> Self {
        result.map_or_else(Self::Failed, |value| Self::Done(value.to_string()))
    }
}

#[derive(Clone, Copy)]
enum Held {
    Memory(u64),
    FromPool(u64),
    Physical(u64),
}

struct Job {
    cuda: Cuda,
    /// By id. What is freed stays here, so that a second free can be seen to fail.
    held: Vec<Held>,
}

impl Client {
    pub fn run(self) -> anyhow::Result<()> {
        let mut job = Job { cuda: Cuda::open(self.lookup)?, held: Vec::new() };
        let mut out = std::io::stdout().lock();
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match job.answer(&words).with_context(|| format!("cannot do `{line}`"))? {
                Answer::Done(text) => writeln!(out, "{}", format!("ok {text}").trim_end())?,
                Answer::Failed(error) => writeln!(out, "error {} {}", error.0, job.cuda.name(error))?,
                Answer::Exit(code) => leave(code),
            }
            out.flush()?;
        }
        Ok(())
    }
}

impl Job {
    fn answer(&mut self, words: &[&str]) -> anyhow::Result<Answer> {
        let size = |text: &str| bytes(text).map_err(|error| anyhow!(error));
        let cuda = &self.cuda;
        let nothing = |()| String::new();
        Ok(match *words {
            ["ctx", gpu] => cuda.use_gpu(gpu.parse()?).map(nothing).into(),
            ["release", gpu] => cuda.release(gpu.parse()?).map(nothing).into(),
            ["sync"] => cuda.synchronize().map(nothing).into(),
            ["info"] => cuda.memory().map(|(free, total)| format!("free {free} total {total}")).into(),
            ["alloc", bytes] => cuda.allocate(size(bytes)?).map(|it| self.keep(Held::Memory(it))).into(),
            ["managed", bytes] => cuda.allocate_managed(size(bytes)?).map(|it| self.keep(Held::Memory(it))).into(),
            ["pitch", width, height] => {
                let address = cuda.allocate_pitched(size(width)?, height.parse()?);
                address.map(|it| self.keep(Held::Memory(it))).into()
            }
            ["async", bytes] => cuda.allocate_async(size(bytes)?).map(|it| self.keep(Held::FromPool(it))).into(),
            ["create", gpu, bytes] => {
                cuda.create(gpu.parse()?, size(bytes)?).map(|it| self.keep(Held::Physical(it))).into()
            }
            ["export", id] => self.export(id.parse()?)?.into(),
            ["import", pid, descriptor] => {
                let file = File::open(format!("/proc/{pid}/fd/{descriptor}"))?;
                cuda.import(file.as_raw_fd()).map(|it| self.keep(Held::Physical(it))).into()
            }
            ["many", count, bytes] => self.many(count.parse()?, size(bytes)?).into(),
            ["churn", count, bytes] => self.churn(count.parse()?, size(bytes)?).into(),
            ["free", id] => self.free(id.parse()?)?.map(nothing).into(),
            ["pid"] => Answer::Done(std::process::id().to_string()),
            ["exit", code] => Answer::Exit(code.parse()?),
            ["crash"] => std::process::abort(),
            _ => return Err(anyhow!("there is no such request")),
        })
    }

    fn keep(&mut self, held: Held) -> usize {
        self.held.push(held);
        self.held.len() - 1
    }

    fn get(&self, id: usize) -> anyhow::Result<Held> {
        self.held.get(id).copied().with_context(|| format!("there is no id {id}"))
    }

    fn free(&self, id: usize) -> anyhow::Result<Result<(), Failed>> {
        Ok(match self.get(id)? {
            Held::Memory(address) => self.cuda.free(address),
            Held::FromPool(address) => self.cuda.free_async(address),
            Held::Physical(handle) => self.cuda.release_memory(handle),
        })
    }

    fn export(&self, id: usize) -> anyhow::Result<Result<i32, Failed>> {
        match self.get(id)? {
            Held::Physical(handle) => Ok(self.cuda.export(handle)),
            _ => Err(anyhow!("only physical memory can be exported")),
        }
    }

    fn many(&mut self, count: u64, size: u64) -> Result<String, Failed> {
        let start = Instant::now();
        for _ in 0..count {
            let address = self.cuda.allocate(size)?;
            self.keep(Held::Memory(address));
        }
        Ok(per_call(start, count))
    }

    fn churn(&mut self, count: u64, size: u64) -> Result<String, Failed> {
        let start = Instant::now();
        for _ in 0..count {
            let address = self.cuda.allocate(size)?;
            self.cuda.free(address)?;
        }
        Ok(per_call(start, count))
    }
}

fn per_call(start: Instant, count: u64) -> String {
    format!("ns {}", start.elapsed().as_nanos() / u128::from(count.max(1)))
}

#[expect(clippy::exit, reason = "the script says how the job ends")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}
