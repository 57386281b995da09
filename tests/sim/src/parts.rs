//! Others on the machine, for a test to command.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use gpu_sim_state::{Client, ClientKind, NoMemory, State};

use crate::Sandbox;
use crate::sandbox::program;

impl Sandbox {
    /// Memory that this process holds on a GPU, until the value is dropped. It costs no context.
    ///
    /// # Panics
    /// If the GPU has not that much left.
    #[track_caller]
    pub fn occupy(&self, gpu: usize, bytes: u64) -> Occupant<'_> {
        let client = self.join(ClientKind::Stand).unwrap_or_else(|error| panic!("cannot join the machine: {error}"));
        let mut occupant = Occupant { state: self, client, gpu, bytes: 0 };
        assert_eq!(occupant.resize(bytes), Ok(()), "GPU {gpu} has no {bytes} bytes left");
        occupant
    }

    /// A process with a context and `bytes` of memory on a GPU, by CUDA's ordinal; it is there when this returns.
    #[track_caller]
    pub fn hog(&self, gpu: usize, bytes: u64) -> Hog {
        let mut command = self.command(program());
        command.args(["hog", "--gpu", &gpu.to_string(), "--size", &format!("{bytes}B")]);
        Hog(Running::start(command, Some("ready")))
    }

    /// A process that takes what becomes free on a GPU. `every` is a time such as `1ms`, or `spin`.
    #[track_caller]
    pub fn thief(&self, gpu: usize, every: &str) -> Thief {
        let mut command = self.command(program());
        command.args(["thief", "--gpu", &gpu.to_string(), "--every", every]);
        Thief(Running::start(command, Some("ready")))
    }

    /// A job that does what it is asked.
    #[track_caller]
    pub fn client(&self) -> Script {
        let mut command = self.command(program());
        command.arg("client");
        Script::start(command)
    }
}

/// Memory held by the test itself.
pub struct Occupant<'a> {
    state: &'a State,
    client: Client,
    gpu: usize,
    bytes: u64,
}

impl Occupant<'_> {
    pub fn resize(&mut self, bytes: u64) -> Result<(), NoMemory> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.state.take(self.gpu, self.client, more)?,
            None => self.state.give(self.gpu, self.client, self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Occupant<'_> {
    fn drop(&mut self) {
        self.state.give(self.gpu, self.client, self.bytes);
    }
}

/// A process that holds memory until dropped.
pub struct Hog(Running);

impl Hog {
    pub fn pid(&self) -> u32 {
        self.0.child.id()
    }
}

/// A process that takes what becomes free.
pub struct Thief(Running);

impl Thief {
    pub fn pid(&self) -> u32 {
        self.0.child.id()
    }

    /// Ends it, and tells how many bytes it had got.
    ///
    /// # Panics
    /// If it did not end well.
    #[track_caller]
    pub fn stop(mut self) -> u64 {
        drop(self.0.input.take());
        let report = self.0.line();
        let taken = report.split(['{', ':', ',', '}']).skip_while(|word| *word != "\"taken_bytes\"").nth(1);
        taken.and_then(|bytes| bytes.parse().ok()).unwrap_or_else(|| panic!("the thief says {report:?}"))
    }
}

/// A job under a script: `gpu-sim client`, which lists what it can be asked.
pub struct Script(Running);

impl Script {
    /// Starts a command at whose end there is `gpu-sim client`, with stdin and stdout passed through.
    #[track_caller]
    pub fn start(command: Command) -> Self {
        Self(Running::start(command, None))
    }

    pub fn pid(&self) -> u32 {
        self.0.child.id()
    }

    /// Asks and gives the answer: `ok ...` or `error CODE NAME`; empty if the job has ended.
    #[track_caller]
    pub fn ask(&mut self, request: &str) -> String {
        self.0.say(request);
        self.0.line()
    }

    /// Asks without waiting for the answer.
    pub fn send(&mut self, request: &str) {
        self.0.say(request);
    }

    /// Asks for what must succeed; gives what stands behind `ok`.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn must(&mut self, request: &str) -> String {
        let answer = self.ask(request);
        match answer.strip_prefix("ok") {
            Some(rest) => rest.trim().to_owned(),
            None => panic!("{request}: {answer:?}"),
        }
    }

    /// Closes its stdin and waits for its end.
    #[track_caller]
    pub fn end(mut self) -> ExitStatus {
        drop(self.0.input.take());
        self.0.child.wait().unwrap_or_else(|error| panic!("cannot wait: {error}"))
    }
}

/// A child that hears and answers in lines, killed when dropped.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Running {
    #[track_caller]
    fn start(mut command: Command, first: Option<&str>) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let input = child.stdin.take();
        let output = child.stdout.take().map(BufReader::new);
        let mut running = Self { child, input, output };
        if let Some(first) = first {
            assert_eq!(running.line(), first, "{command:?} did not start");
        }
        running
    }

    #[track_caller]
    fn say(&mut self, line: &str) {
        // A job that has ended does not read; its silence answers.
        let _ = self.input.as_mut().map(|input| writeln!(input, "{line}"));
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.output.as_mut().map(|output| output.read_line(&mut line));
        read.transpose().unwrap_or_else(|error| panic!("cannot read: {error}"));
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
