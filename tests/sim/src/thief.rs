//! Somebody who takes whatever becomes free.

use std::io::Write as _;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::cli::{Lookup, Thief};
use crate::cuda::{Cuda, OUT_OF_MEMORY};
use crate::parse::duration;

const SMALLEST: u64 = 2 << 20;

impl Thief {
    pub fn run(self) -> anyhow::Result<()> {
        let pause = match self.every.as_str() {
            "spin" => None,
            every => Some(duration(every).map_err(|error| anyhow!(error))?),
        };
        let ended = crate::ending::watch()?;
        let cuda = Cuda::open(Lookup::Dlsym)?;
        cuda.use_gpu(self.gpu).map_err(|error| anyhow!("no context: {}", cuda.name(error)))?;
        let start = Instant::now();
        writeln!(std::io::stdout(), "ready")?;
        let (mut taken, mut tries) = (0, 0_u64);
        while !ended.load(Relaxed) {
            tries += 1;
            taken += self.grab(&cuda, ended).map_err(|error| anyhow!("cannot steal: {}", cuda.name(error)))?;
            if let Some(pause) = pause {
                std::thread::sleep(pause);
            }
        }
        let seconds = start.elapsed().max(Duration::from_nanos(1)).as_secs_f64();
        writeln!(std::io::stdout(), r#"{{"taken_bytes":{taken},"tries":{tries},"seconds":{seconds:.3}}}"#)?;
        Ok(())
    }

    /// Takes pieces as large as they go until nothing is left.
    fn grab(&self, cuda: &Cuda, ended: &AtomicBool) -> crate::cuda::Result<u64> {
        let (mut piece, mut taken) = (self.largest.max(SMALLEST), 0);
        while piece >= SMALLEST && !ended.load(Relaxed) {
            match cuda.allocate(piece) {
                Ok(_) => taken += piece,
                Err(OUT_OF_MEMORY) => piece /= 2,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }
}
