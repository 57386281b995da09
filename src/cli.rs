//! The command line. These doc comments are the help, the man pages and the completions.

mod command;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod manual;
#[cfg(test)]
mod shells;
mod time;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::units::{ByteSize, ReserveSpec, ResizeSpec};
pub use command::completions;
pub use time::Patience;
use time::{duration, patience, pause};
pub use usage::{parse, stray};

/// Reserve GPU memory on shared NVIDIA machines, hold it at no cost, and hand it to the job it is for.
#[derive(Debug, Parser)]
#[command(name = "gpu-balloon", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// Say more; twice for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 900)]
    pub verbose: u8,

    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 901)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reserve memory and hold it until a signal, a timeout or `release`
    ///
    /// The memory is taken on all of the GPUs or on none. Once everything is held, one line goes to standard output:
    /// `ready name=train pid=4242 gpus=0,1 held=4294967296`, with the bytes over all GPUs. A GPU with too little free
    /// memory means that everything is given back; the shortfall and the processes in the way are named, and the exit code
    /// is 3.
    ///
    /// A holder that holds sleeps: it costs no CPU time until something ends or resizes its balloon.
    Hold(Hold),
    /// Run a command in memory that is reserved before it starts
    ///
    /// The command starts only once the memory is held. As it and its descendants allocate, the balloon gives way byte for
    /// byte, so that job and balloon together stay at the reservation; what they free comes back to the balloon. When the
    /// command ends, everything is released, and `run` ends as the command did: with its exit code, or by the same signal.
    ///
    /// On a full GPU others may be faster to take what the balloon frees for the command. Once they have been, the command
    /// borrows: the balloon's own memory is mapped into it and remains the balloon's, so that it is never free. A minute later
    /// it tries to allocate as usual again.
    ///
    /// The command sees exactly the reserved GPUs, and nothing is written to its output unless `-v` asks for it or
    /// something is broken.
    Run(Run),
    /// Show the GPUs, the balloons, and who holds the rest
    ///
    /// Asks NVML and the holders; creates no CUDA context and takes no device memory.
    Status(Status),
    /// Change the size of a live balloon
    ///
    /// Only the difference is allocated or freed; what stays in the balloon is never let go of. A growth that does not fit
    /// leaves the balloon as it was, and the exit code is 3. The change on each GPU is printed, in bytes with a sign.
    Resize(Resize),
    /// Release balloons; return once their memory is free
    ///
    /// A balloon can be released by its owner and by root.
    Release(Release),
    /// Check the driver, the GPUs and the permissions
    ///
    /// Then inflates and deflates a small balloon on each GPU, and reports its overhead and speed. The exit code is 0 only
    /// if a `hold` would work.
    Doctor(Doctor),
    /// Print the completions for a shell
    Completions(Completions),
}

/// What `hold` and `run` have in common.
#[derive(Debug, Args)]
pub struct Reservation {
    /// GPUs: 0,1 | 0-3 | all | any:2 | GPU-UUID | PCI-ID
    ///
    /// An index is a CUDA ordinal in PCI bus order within CUDA_VISIBLE_DEVICES; with that variable unset, it is
    /// nvidia-smi's. A UUID, of a GPU or of a MIG instance, may be shortened to a prefix that no other has. `any:2` takes
    /// the two GPUs with the most free memory that can take the request. May be repeated. Without it: every GPU in
    /// CUDA_VISIBLE_DEVICES when that is set, else GPU 0.
    #[arg(short, long, value_name = "LIST", env = "GPU_BALLOON_GPU")]
    pub gpu: Vec<String>,

    /// Size: 2GB | 50% | all-2GB | 4GB,2GB
    ///
    /// Units are 1024-based (1 GB is 1024 MB); a whole number without a unit is MB, a number with a dot and no unit a
    /// fraction of the free memory. `50%` is a share of the GPU's free memory, `80%total` of all its memory; `all` is
    /// everything that is free, `all-2GB` leaves 2 GB. `auto` goes by how busy the GPU is: 90% of free below 20%
    /// utilization, 60% below 50%, else 30%. One size serves every GPU; a list has one for each, in the order of --gpu
    /// (`4GB,2GB`) or by GPU (`0=4GB,1=2GB`). Sizes round up to the driver's granularity of 2 MB.
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
    ///
    /// A chunk that does not fit is halved, down to the driver's granularity, before the holder gives up.
    #[arg(
        long,
        value_name = "SIZE",
        env = "GPU_BALLOON_CHUNK_SIZE",
        default_value = "100MB",
        allow_hyphen_values = true
    )]
    pub chunk_size: ByteSize,

    /// End the reservation after TIME, such as 90s or 2h30m
    ///
    /// A number alone is in seconds, and 0 is no timeout. A command under `run` goes on without its reservation.
    #[arg(short, long, value_name = "TIME", env = "GPU_BALLOON_TIMEOUT", value_parser = duration)]
    pub timeout: Option<Duration>,

    /// Wait until the whole request fits, at most this long
    ///
    /// Then takes it at once. The waiting holders of one user queue for each GPU, first come, first served. Without TIME
    /// the wait has no end; with 0 there is none.
    #[arg(short, long, value_name = "TIME", env = "GPU_BALLOON_WAIT", num_args = 0..=1, require_equals = true,
          default_missing_value = "forever", value_parser = patience)]
    pub wait: Option<Patience>,

    /// Take what is free now and grow to the whole request
    ///
    /// It is ready only when everything is held. When --wait's time is over before, everything is given back, or kept with
    /// --best-effort.
    #[arg(long, env = "GPU_BALLOON_GREEDY", value_parser = FalseyValueParser::new())]
    pub greedy: bool,

    /// Name the balloon; without it, its name is the pid
    #[arg(short, long, env = "GPU_BALLOON_NAME")]
    pub name: Option<String>,

    /// Do nothing, and succeed, when --name already holds
    ///
    /// A command under `run` is not started then.
    #[arg(long, requires = "name")]
    pub if_absent: bool,

    /// Say what the memory is for; `status` shows it
    #[arg(long, value_name = "TEXT", env = "GPU_BALLOON_REASON")]
    pub reason: Option<String>,

    /// Return once it is held; go on in the background
    ///
    /// Errors and exit codes are those of the foreground. The holder outlives the shell and keeps no terminal or pipe open;
    /// what it has to say later goes to a log, which `status` names. A command under `run` has started by then, and its
    /// exit code is no longer told. It reads nothing, and what it prints goes to the log, or to the files to which standard
    /// output and standard error were redirected.
    #[arg(short, long)]
    pub detach: bool,

    /// End the reservation when the process PID ends
    ///
    /// A command under `run` goes on without its reservation.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub until_exit: Option<i32>,

    /// Keep what fits instead of all or nothing
    #[arg(long, env = "GPU_BALLOON_BEST_EFFORT", value_parser = FalseyValueParser::new())]
    pub best_effort: bool,

    /// Hold without a CUDA context, at next to no overhead
    ///
    /// A context costs device memory of its own, keeps the GPU's clocks up, and wakes a thread of the driver ten times a
    /// second. Without one the memory is held just as firmly, but nvidia-smi names no process for it; `gpu-balloon status`
    /// does. Needs NVML.
    #[arg(long, env = "GPU_BALLOON_CONTEXTLESS", value_parser = FalseyValueParser::new())]
    pub contextless: bool,

    /// Write the ready line to file descriptor N too
    #[arg(long, value_name = "N", env = "GPU_BALLOON_READY_FD", value_parser = clap::value_parser!(i32).range(0..))]
    pub ready_fd: Option<i32>,

    /// Print results as JSON
    #[arg(long, env = "GPU_BALLOON_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Hold {
    #[command(flatten)]
    pub reservation: Reservation,
}

#[derive(Debug, Args)]
#[command(override_usage = "gpu-balloon run [OPTIONS] -- CMD [ARG]...")]
pub struct Run {
    #[command(flatten)]
    pub reservation: Reservation,

    /// How the memory passes to the command
    #[arg(long, value_name = "HOW", value_enum, default_value_t, env = "GPU_BALLOON_HANDOVER")]
    pub handover: HandoverMode,

    /// What the command is shown as free and total memory
    #[arg(long, value_enum, default_value_t, env = "GPU_BALLOON_VIEW")]
    pub view: View,

    /// Leave CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER as they are
    #[arg(long)]
    pub keep_visible: bool,

    /// At the end, report the command's peak and the right --reserve
    ///
    /// For each GPU: the peak, the bytes handed over, how often the driver ran out of memory and was asked again, and the
    /// --reserve that would have been enough. A context of which NVML does not tell the size counts at a typical one, and
    /// the peak is then said to be estimated. Goes to FILE, else to standard error; as JSON with --json.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, value_hint = ValueHint::FilePath)]
    pub summary: Option<Option<PathBuf>>,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD",
          value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum HandoverMode {
    /// By a library preloaded into the command, which borrows where others are faster; by NVML where that cannot go
    #[default]
    Auto,
    /// By the preloaded library alone
    Preload,
    /// By NVML's account of the command's processes alone; slower, coarser, and nothing is borrowed
    Nvml,
    /// As auto, but the command always borrows
    Vmm,
    /// Not at all: the balloon keeps its size beside the command
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// What is free on the GPU and in its balloon, of the GPU's total
    #[default]
    Shared,
    /// The reservation as the total
    Capped,
    /// What the driver says
    Raw,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Only this balloon: its name, pid, or a unique prefix
    pub name: Option<String>,

    /// Only these GPUs
    #[arg(short, long, value_name = "LIST")]
    pub gpu: Vec<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Show it again and again, every two seconds or TIME
    #[arg(short, long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2s",
          value_parser = pause)]
    pub watch: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Resize {
    /// The balloon: its name, pid, or a unique prefix
    pub name: String,

    /// The new size, as for --reserve, or a change: +1GB, -1GB, +50%
    ///
    /// `+50%` grows by half of what is free now. As the balloon's own memory counts as free for a size, `80%` twice is the
    /// same as once.
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
    /// The balloons: their names, pids, or unique prefixes
    #[arg(value_name = "NAME", required_unless_present = "all")]
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
