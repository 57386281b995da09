//! Somebody else who holds memory.

use std::io::{Read as _, Write as _};

use anyhow::anyhow;

use crate::cli::{Hog, Lookup};
use crate::cuda::Cuda;

impl Hog {
    pub fn run(self) -> anyhow::Result<()> {
        let cuda = Cuda::open(Lookup::Dlsym)?;
        let hold =
            || cuda.use_gpu(self.gpu).and_then(|()| if self.size > 0 { cuda.allocate(self.size) } else { Ok(0) });
        hold().map_err(|error| anyhow!("cannot hold: {}", cuda.name(error)))?;
        writeln!(std::io::stdout(), "ready")?;
        // The end of the process gives the memory back, whatever ends it.
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }
}
