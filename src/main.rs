//! gpu-balloon: reserve GPU memory, hold it, hand it over.
//!
//! Where to look. A module knows those below it, never those above.
//!
//! | Module      | Owns                                                                        |
//! |-------------|-----------------------------------------------------------------------------|
//! | `commands`  | one file a verb: options to domain calls, failures to words and exit codes  |
//! | `cli`       | the options, their help, man pages and completions; refusing a wrong usage  |
//! | `report`    | how GPUs and balloons are shown: a file a format, values in, text out       |
//! | `holder`    | the event loop of a `hold` or `run`, and a worker thread for each GPU       |
//! | `line`      | who of the holders that wait may take memory now                            |
//! | `handover`  | giving way to the job: the library in its processes (`preload/`), their desk |
//! | `job`       | the wrapped command: starting it, its signals, how it ended                 |
//! | `control`   | managing a balloon from other shells: wire, server, client, registry        |
//! | `balloon`   | target and chunks on one GPU: the policy, over any space to allocate in     |
//! | `gpu`       | identity, selection and visibility of GPUs; the CUDA driver API and NVML    |
//! | `signals`   | the signals acted on, as a descriptor to poll                               |
//! | `process`   | what the system tells of a process                                          |
//! | `untrusted` | what others wrote, made fit for a terminal                                  |
//! | `units`     | sizes: spelling, meaning on one GPU, arithmetic                             |
//! | `exit`      | the exit codes                                                              |
//! | `logging`   | diagnostics on standard error                                               |

mod balloon;
mod cli;
mod commands;
mod control;
mod exit;
mod gpu;
mod handover;
mod holder;
mod job;
mod line;
mod logging;
mod process;
mod report;
mod signals;
mod units;
mod untrusted;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    logging::start(logging::Verbosity { verbose: cli.verbose, quiet: cli.quiet });
    gpu::order_by_pci_bus();
    cli.command.run(cli.quiet).unwrap_or_else(commands::Failure::report)
}
