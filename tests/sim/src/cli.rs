//! What can be asked on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::parse::{Cost, bytes, compute_mode, cost, cuda_version, duration, fault};
use gpu_sim::{ComputeMode, Fault};

/// Runs a command on a machine with simulated NVIDIA GPUs
///
/// Without --dir or --shared the machine goes when the command and all that it left behind have ended. On a machine
/// already (GPU_SIM_DIR names it), the command joins that one, and what would shape a new one has no effect.
#[derive(Debug, Parser)]
#[command(name = "gpu-sim", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub part: Option<Part>,
    #[command(flatten)]
    pub launch: Launch,
}

#[derive(Debug, Subcommand)]
pub enum Part {
    /// Hold memory on a GPU until stdin closes or a signal comes
    Hog(Hog),
    /// Take whatever memory becomes free, until stdin closes or SIGTERM
    Thief(Thief),
    /// A job that does what it reads on stdin
    Client(Client),
    /// Show the machine and who uses it
    Show(Show),
}

/// What is given as a list counts per GPU; the last value goes for the rest.
#[derive(Debug, Args)]
pub struct Launch {
    /// How many GPUs
    #[arg(long, default_value_t = 2)]
    pub gpus: usize,
    /// Memory of each GPU
    #[arg(long, value_name = "SIZE,...", value_parser = bytes, value_delimiter = ',', default_value = "24GB")]
    pub memory: Vec<u64>,
    /// Memory that a context costs
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "500MB")]
    pub context: u64,
    /// Memory that the driver keeps for itself
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "0MB")]
    pub reserved: u64,
    /// How busy each GPU says it is
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', default_value = "0")]
    pub utilization: Vec<u32>,
    /// default, exclusive or prohibited
    #[arg(long, value_name = "MODE,...", value_parser = compute_mode, value_delimiter = ',', default_value = "default")]
    pub compute_mode: Vec<ComputeMode>,
    /// Name of each GPU
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub name: Vec<String>,
    /// CUDA's order of the GPUs without CUDA_DEVICE_ORDER=PCI_BUS_ID
    #[arg(long, value_name = "GPU,...", value_delimiter = ',')]
    pub fastest_first: Vec<u32>,
    /// What calls cost: init, context, alloc, free, query, copy, nvml, other, refusal
    #[arg(long, value_name = "FAMILY=TIME,...", value_parser = cost, value_delimiter = ',')]
    pub call_cost: Vec<Cost>,
    /// How long the driver still reports freed memory as used
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0ms")]
    pub lag: Duration,
    /// Calls that fail: the Nth from now, COUNT times
    #[arg(long, value_name = "FUNCTION=ERROR[@N][xCOUNT]", value_parser = fault)]
    pub inject: Vec<Fault>,
    /// A GPU that has fallen off the bus
    #[arg(long, value_name = "GPU")]
    pub lost: Vec<usize>,
    /// Version of CUDA that the driver supports
    #[arg(long, value_name = "MAJOR.MINOR", value_parser = cuda_version, default_value = "13.0")]
    pub cuda_version: u32,
    /// Version of the driver
    #[arg(long, default_value = "580.65.06")]
    pub driver_version: String,
    /// The toolkit's stub in place of the driver
    #[arg(long)]
    pub stub: bool,
    /// A symbol that the driver is too old to have
    #[arg(long, value_name = "SYMBOL")]
    pub without: Vec<String>,
    /// No libnvidia-ml.so.1
    #[arg(long)]
    pub no_nvml: bool,
    /// No libcuda.so.1
    #[arg(long)]
    pub no_cuda: bool,
    /// A machine that stays: made in DIR, or joined if one is there
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The machine that stays in cargo's target folder
    #[arg(long, conflicts_with = "dir")]
    pub shared: bool,
    #[arg(last = true, value_name = "COMMAND", required = true)]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Hog {
    /// CUDA's ordinal
    #[arg(long, default_value_t = 0)]
    pub gpu: i32,
    /// What to allocate beside the context
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub size: u64,
}

#[derive(Debug, Args)]
pub struct Thief {
    /// CUDA's ordinal
    #[arg(long, default_value_t = 0)]
    pub gpu: i32,
    /// How often to try: a time, or `spin`
    #[arg(long, value_name = "TIME", default_value = "1ms")]
    pub every: String,
    /// The largest piece
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "64MB")]
    pub largest: u64,
}

#[derive(Debug, Args)]
pub struct Client {
    /// How the functions of libcuda.so.1 are found
    #[arg(long, value_enum, default_value = "dlsym")]
    pub lookup: Lookup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Lookup {
    /// dlopen and dlsym
    Dlsym,
    /// By cuGetProcAddress, which comes by dlsym
    Proc,
    /// In the order of a linked program: LD_PRELOAD, then the library
    Linked,
}

#[derive(Debug, Args)]
pub struct Show {
    /// The machine; without it, the one that the environment names, else the one in cargo's target folder
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// And which functions this process has called how often, also after its end
    #[arg(long, value_name = "PID")]
    pub calls: Option<u32>,
}
