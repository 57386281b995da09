//! `gpu-balloon resize`: asks a live holder for another size and prints what changed.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::cli;
use crate::commands::Failure;
use crate::commands::blockers::in_the_way;
use crate::commands::holders::{Holders, chosen, refuse_foreign, shown, silent, unexpected};
use crate::commands::plan::visibility;
use crate::control::wire::{Answer, Balloon, Request, Resized, Shortfall};
use crate::exit::Exit;
use crate::gpu::{GpuUuid, Visible};
use crate::units::{ByteSize, NamedGpu};

/// A GPU of the balloon, by whatever name this shell has for it.
struct Part {
    uuid: GpuUuid,
    visible: Option<Visible>,
}

impl cli::Resize {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let holders = Holders::live()?;
        let holder = holders.named(&self.name)?;
        let balloon = holders.describe(holder)?;
        let parts = self.parts(&balloon)?;
        let changes = self.spec.per_gpu(&parts).map_err(Failure::usage)?;
        let changes = parts.iter().zip(changes).map(|(part, change)| (part.uuid, change.to_string())).collect();
        let request = Request::Resize { changes, chunk_bytes: self.chunk_size.map(ByteSize::bytes) };
        let answer = holders.ask(holder, &request).and_then(|pending| holders.wait(holder, pending));
        match answer.map_err(|error| silent(holder, error))? {
            Answer::Resized { gpus } => print(&balloon.name, &gpus, &parts),
            Answer::NotAvailable { shortfalls } => Err(not_available(&balloon, &shortfalls, &parts)),
            answer => Err(unexpected(holder, &answer)),
        }
    }

    /// The parts to change: those that `--gpu` names, in its order, else all.
    fn parts(&self, balloon: &Balloon) -> Result<Vec<Part>, Failure> {
        if self.gpu.is_empty() {
            let visible = visibility().map(|visibility| visibility.gpus).unwrap_or_default();
            let part = |uuid| Part { uuid, visible: visible.iter().find(|gpu| gpu.known.uuid == uuid).cloned() };
            return Ok(balloon.gpus.iter().map(|gpu| part(gpu.uuid)).collect());
        }
        let chosen = chosen(&self.gpu)?;
        refuse_foreign(balloon, &chosen)?;
        Ok(chosen.into_iter().map(|gpu| Part { uuid: gpu.known.uuid, visible: Some(gpu) }).collect())
    }
}

impl NamedGpu for Part {
    fn answers_to(&self, key: &str) -> bool {
        self.visible.as_ref().is_some_and(|visible| visible.answers_to(key)) || self.uuid.to_string() == key
    }

    fn shown(&self) -> String {
        self.visible.as_ref().map_or_else(|| self.uuid.to_string(), NamedGpu::shown)
    }
}

/// The same words as for a `hold` that does not fit.
fn not_available(balloon: &Balloon, shortfalls: &[Shortfall], parts: &[Part]) -> Failure {
    let visible = visible(parts);
    let short: Vec<_> = shortfalls.iter().map(|short| (shown(short.uuid, &visible), short.uuid)).collect();
    let told = shortfalls.iter().zip(&short).map(|(short, (gpu, _))| {
        let [wanted, free, missing] = [short.wanted_bytes, short.free_bytes, short.missing_bytes].map(ByteSize::new);
        format!("GPU {gpu}: {wanted} wanted, {free} free, {missing} missing")
    });
    let error = anyhow::anyhow!("the memory is not available: {}", told.collect::<Vec<_>>().join("; "));
    Failure::new(Exit::NotAvailable, error)
        .context(format!("balloon `{}` stays as it was", balloon.name))
        .details(in_the_way(&short, Some(balloon.pid)))
        .hint("ask for less, or for all there is: `all`")
}

fn visible(parts: &[Part]) -> Vec<Visible> {
    parts.iter().filter_map(|part| part.visible.clone()).collect()
}

fn print(name: &str, gpus: &[Resized], parts: &[Part]) -> Result<ExitCode, Failure> {
    let visible = visible(parts);
    let mut text = String::new();
    for gpu in gpus {
        let change = i128::from(gpu.after_bytes) - i128::from(gpu.before_bytes);
        let (gpu, held) = (shown(gpu.uuid, &visible), gpu.after_bytes);
        let _ = writeln!(text, "resized name={name} gpu={gpu} change={change:+} held={held}");
    }
    // The balloon has changed whether or not anybody reads of it.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(Exit::Done.into())
}
