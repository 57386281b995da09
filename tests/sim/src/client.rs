//! A job under a script: reads commands on stdin, answers each with one line.
//!
//! `ctx GPU`, `alloc SIZE` (answers an id), `free ID`, `info`, `release GPU`, `churn COUNT SIZE` (allocates and frees;
//! answers the time per pair), `many COUNT SIZE` (allocates and keeps), `pid`, `exit CODE`, `crash`. An answer begins
//! with `ok`, or with `error`, code and name.

use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use anyhow::{Context as _, anyhow};

use crate::cli::Client;
use crate::cuda::{Cuda, Failed};
use crate::parse::bytes;

/// What a command came to.
enum Answer {
    Done(String),
    Failed(Failed),
    Exit(i32),
}

impl From<Result<String, Failed>> for Answer {
    fn from(result: Result<String, Failed>) -> Self {
        result.map_or_else(Self::Failed, Self::Done)
    }
}

struct Job {
    cuda: Cuda,
    /// By id; 0 once freed.
    allocations: Vec<u64>,
}

impl Client {
    pub fn run(self) -> anyhow::Result<()> {
        let mut job = Job { cuda: Cuda::open(self.lookup)?, allocations: Vec::new() };
        let mut out = std::io::stdout().lock();
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match job.answer(&words).with_context(|| format!("cannot do `{line}`"))? {
                Answer::Done(text) => writeln!(out, "ok {text}")?,
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
        Ok(match *words {
            ["ctx", gpu] => self.cuda.use_gpu(gpu.parse()?).map(|()| String::new()).into(),
            ["release", gpu] => self.cuda.release(gpu.parse()?).map(|()| String::new()).into(),
            ["alloc", bytes] => self.alloc(size(bytes)?).map(|id| id.to_string()).into(),
            ["many", count, bytes] => self.many(count.parse()?, size(bytes)?).into(),
            ["free", id] => self.free(id.parse()?).into(),
            ["info"] => self.cuda.memory().map(|(free, total)| format!("free {free} total {total}")).into(),
            ["churn", count, bytes] => self.churn(count.parse()?, size(bytes)?).into(),
            ["pid"] => Answer::Done(std::process::id().to_string()),
            ["exit", code] => Answer::Exit(code.parse()?),
            ["crash"] => std::process::abort(),
            _ => return Err(anyhow!("no such command")),
        })
    }

    fn alloc(&mut self, size: u64) -> Result<usize, Failed> {
        self.allocations.push(self.cuda.allocate(size)?);
        Ok(self.allocations.len() - 1)
    }

    fn many(&mut self, count: u64, size: u64) -> Result<String, Failed> {
        let start = Instant::now();
        for _ in 0..count {
            self.alloc(size)?;
        }
        Ok(per_call(start, count))
    }

    /// A second time, too, so that the driver's refusal can be seen.
    fn free(&mut self, id: usize) -> Result<String, Failed> {
        let address = self.allocations.get(id).copied().unwrap_or(u64::MAX);
        self.cuda.free(address).map(|()| String::new())
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
