//! The command line. These doc comments are the help, the man pages and the completions.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::units::{ByteSize, ReserveSpec, ResizeSpec};

/// Reserve GPU memory on shared NVIDIA machines, hold it at no cost, and hand it to the job it is for.
#[derive(Debug, Parser)]
#[command(name = "gpu-balloon", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// Say more; twice for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 memory not available, 4 no usable driver or GPU, 5 no such balloon.
`run` exits with the command's own code, or dies by the same signal; 124 memory not available, 125 gpu-balloon
failed, 126 the command cannot be executed, 127 the command was not found.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reserve memory and hold it until a signal, a timeout or `release`
    Hold(Hold),
    /// Run a command whose GPU memory is reserved before it starts and handed over as it allocates
    Run(Run),
    /// Show GPUs, balloons and who holds the rest
    Status(Status),
    /// Change the size of a live balloon
    Resize(Resize),
    /// Release balloons; returns once their memory is free
    Release(Release),
    /// Check driver, GPUs and permissions, and try a small balloon on each GPU
    Doctor(Doctor),
    /// Print the completions for a shell
    Completions(Completions),
}

/// What `hold` and `run` have in common.
#[derive(Debug, Args)]
pub struct Reservation {
    /// GPUs: 0 · 0,1 · 0-3 · all · GPU-<uuid> · MIG-<uuid> · PCI bus id · any:N
    ///
    /// Indices are CUDA ordinals in PCI bus order within CUDA_VISIBLE_DEVICES; with that variable unset they are
    /// nvidia-smi's. `any:N` takes the N GPUs with the most free memory that can take the request. Default: every GPU in
    /// CUDA_VISIBLE_DEVICES when that is set, else GPU 0.
    #[arg(short, long, value_name = "LIST", env = "GPU_BALLOON_GPU")]
    pub gpu: Vec<String>,

    /// Size per GPU: 2GB · 50% · 80%total · all · all-2GB · auto · 4GB,2GB · 0=4GB,1=50%
    ///
    /// Units are 1024-based; a bare whole number is MB; a number with a dot and no unit is a fraction. Shares are of the
    /// GPU's free memory, or of its total memory with `%total`. `auto` goes by how busy the GPU is: 90 % of free below
    /// 20 % utilization, 60 % below 50 %, else 30 %.
    #[arg(
        short,
        long,
        value_name = "SPEC",
        env = "GPU_BALLOON_RESERVE",
        default_value = "auto",
        allow_hyphen_values = true
    )]
    pub reserve: ReserveSpec,

    /// Allocate in chunks of this size
    #[arg(
        long,
        value_name = "SIZE",
        env = "GPU_BALLOON_CHUNK_SIZE",
        default_value = "100MB",
        allow_hyphen_values = true
    )]
    pub chunk_size: ByteSize,

    /// End the reservation after this time, such as 90s or 2h30m
    #[arg(short, long, value_name = "TIME", env = "GPU_BALLOON_TIMEOUT", value_parser = duration)]
    pub timeout: Option<Duration>,

    /// Wait until the whole request fits, at most this long
    #[arg(short, long, value_name = "TIME", env = "GPU_BALLOON_WAIT", num_args = 0..=1, require_equals = true,
          default_missing_value = "forever", value_parser = patience)]
    pub wait: Option<Patience>,

    /// Take what is free now and grow to the whole request as others leave
    #[arg(long, env = "GPU_BALLOON_GREEDY")]
    pub greedy: bool,

    /// Name the balloon; default: the holder's pid
    #[arg(short, long, env = "GPU_BALLOON_NAME")]
    pub name: Option<String>,

    /// Say what the memory is for; `status` shows it
    #[arg(long, value_name = "TEXT", env = "GPU_BALLOON_REASON")]
    pub reason: Option<String>,

    /// Keep what fits instead of all or nothing
    #[arg(long, env = "GPU_BALLOON_BEST_EFFORT")]
    pub best_effort: bool,

    /// Hold without a CUDA context: no overhead and no power, but nvidia-smi names no process for the memory
    ///
    /// A context costs device memory of its own, keeps the GPU's clocks up, and wakes a thread of the driver ten times a
    /// second. Without one the memory is held just as firmly; `gpu-balloon status` still tells who holds it. Needs NVML.
    #[arg(long, env = "GPU_BALLOON_CONTEXTLESS")]
    pub contextless: bool,

    /// Write the ready line to this file descriptor as well
    #[arg(long, value_name = "N", env = "GPU_BALLOON_READY_FD", value_parser = clap::value_parser!(i32).range(0..))]
    pub ready_fd: Option<i32>,

    /// Print results as JSON
    #[arg(long, env = "GPU_BALLOON_JSON")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Hold {
    #[command(flatten)]
    pub reservation: Reservation,

    /// Succeed without a second balloon when the name already holds
    #[arg(long, requires = "name")]
    pub if_absent: bool,

    /// Return once the memory is held and keep holding it in the background
    #[arg(short, long)]
    pub detach: bool,

    /// End when the process with this pid ends
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub until_exit: Option<i32>,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub reservation: Reservation,

    /// How the memory passes to the command
    #[arg(long, value_enum, default_value_t, env = "GPU_BALLOON_HANDOVER")]
    pub handover: HandoverMode,

    /// What the command sees as free and total memory
    #[arg(long, value_enum, default_value_t, env = "GPU_BALLOON_VIEW")]
    pub view: View,

    /// Leave CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER as they are
    #[arg(long)]
    pub keep_visible: bool,

    /// At the end, report the command's peak memory and the --reserve that would have been right
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, value_hint = ValueHint::FilePath)]
    pub summary: Option<Option<PathBuf>>,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD",
          value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum HandoverMode {
    /// The preload library, and NVML where it cannot go
    #[default]
    Auto,
    /// The preload library alone
    Preload,
    /// Follow NVML's account of the command's processes
    Nvml,
    /// None: the balloon keeps its size beside the command
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// Free memory includes the command's own balloon
    #[default]
    Shared,
    /// Total memory is the reservation
    Capped,
    /// The driver's word
    Raw,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Only this balloon: a name, a pid or a unique prefix
    pub name: Option<String>,

    /// Only these GPUs
    #[arg(short, long, value_name = "LIST")]
    pub gpu: Vec<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Repeat, every two seconds by default
    #[arg(short, long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2s",
          value_parser = duration)]
    pub watch: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Resize {
    /// The balloon: a name, a pid or a unique prefix
    pub name: String,

    /// The new size as for --reserve, or a change: +1GB, -1GB, +50%
    #[arg(allow_hyphen_values = true)]
    pub spec: ResizeSpec,

    /// Only on these GPUs
    #[arg(short, long, value_name = "LIST")]
    pub gpu: Vec<String>,

    /// Allocate what is new in chunks of this size
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub chunk_size: Option<ByteSize>,
}

#[derive(Debug, Args)]
pub struct Release {
    /// The balloons: names, pids or unique prefixes
    #[arg(required_unless_present = "all")]
    pub names: Vec<String>,

    /// Every balloon of this user
    #[arg(long, conflicts_with = "names")]
    pub all: bool,

    /// Only the part on these GPUs
    #[arg(short, long, value_name = "LIST")]
    pub gpu: Vec<String>,

    /// Succeed when there is no such balloon
    #[arg(long)]
    pub if_exists: bool,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell to complete for
    pub shell: clap_complete::Shell,
}

/// How long a holder waits for its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    Forever,
    For(Duration),
}

fn patience(text: &str) -> Result<Patience, String> {
    if text == "forever" { Ok(Patience::Forever) } else { duration(text).map(Patience::For) }
}

/// Reads `2h30m` and the like, and bare seconds as timeout(1) does.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        humantime::parse_duration(&format!("{text}s"))
    } else {
        humantime::parse_duration(text)
    };
    match parsed {
        Ok(time) if time.is_zero() => Err("a time must be longer than zero, such as 90s or 2h30m".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write a time such as 90s or 2h30m")),
    }
}
