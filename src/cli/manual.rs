//! What the man pages say beyond the help: exit status, environment, files, signals, examples.

use crate::cli::command::command;
use crate::exit::Exit;

/// A section of a man page.
pub struct Section {
    pub title: &'static str,
    pub parts: Vec<Part>,
}

/// What a section is made of.
pub enum Part {
    Text(String),
    /// A term, and what it means.
    Item(String, String),
    /// Lines to type.
    Code(&'static str),
}

/// The sections that follow the options on the page of `verb`; of the whole program with none.
pub fn sections(verb: Option<&str>) -> Vec<Section> {
    let sections = [
        ("EXIT STATUS", exit_status(verb)),
        ("ENVIRONMENT", environment(verb)),
        ("FILES", files(verb)),
        ("SIGNALS", signals(verb)),
        ("EXAMPLES", examples(verb)),
        ("SEE ALSO", see_also(verb)),
    ];
    let written = sections.into_iter().filter(|(_, parts)| !parts.is_empty());
    written.map(|(title, parts)| Section { title, parts }).collect()
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn item(term: &str, meaning: &str) -> Part {
    Part::Item(term.to_owned(), meaning.to_owned())
}

fn exit_status(verb: Option<&str>) -> Vec<Part> {
    let codes = |exits: &[Exit]| -> Vec<Part> {
        exits.iter().map(|&exit| item(&(exit as u8).to_string(), &sentence(exit.meaning()))).collect()
    };
    let signal = |when: &str| Part::Item("128+n".to_owned(), format!("Signal n came {when}."));
    match verb {
        None => {
            let run = text("gpu-balloon-run(1) has codes of its own.");
            codes(&Exit::COMMON).into_iter().chain([run]).collect()
        }
        Some("hold") => {
            let mut parts = codes(&Exit::COMMON[..5]);
            parts.push(signal("before everything was held, or a second one while the balloon deflated"));
            parts
        }
        Some("run") => {
            let mut parts = vec![text(
                "The command's own. When a signal ended the command, or came before everything was held, run ends by the \
                 same signal, which a shell shows as 128+n. 0 with --detach once the command has started, and with \
                 --if-absent when it is not needed. Otherwise:",
            )];
            parts.extend(codes(&Exit::OF_RUN));
            parts
        }
        Some("status") => codes(&[Exit::Done, Exit::Failed, Exit::Usage, Exit::NoGpu, Exit::NoSuchBalloon]),
        Some("resize" | "release") => {
            codes(&[Exit::Done, Exit::Failed, Exit::Usage, Exit::NotAvailable, Exit::NoGpu, Exit::NoSuchBalloon])
                .into_iter()
                .filter(|part| verb == Some("resize") || !matches!(part, Part::Item(code, _) if code == "3"))
                .collect()
        }
        Some("doctor") => vec![
            item("0", "A hold would work."),
            item("1", "Something is in its way; the report says what."),
            item("2", "Wrong usage."),
            item("4", "No usable driver or GPU."),
        ],
        Some(_) => codes(&[Exit::Done, Exit::Failed, Exit::Usage]),
    }
}

/// `word` as a sentence.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

fn environment(verb: Option<&str>) -> Vec<Part> {
    let visible = item(
        "CUDA_VISIBLE_DEVICES",
        "Which GPUs there are, as for every CUDA program; indices count within it. CUDA_DEVICE_ORDER is taken to be \
         PCI_BUS_ID.",
    );
    let mut parts: Vec<Part> = verb.and_then(stand_ins).into_iter().collect();
    match verb {
        None => parts.extend([
            item("GPU_BALLOON_LOG", "What to log on standard error, such as debug; outdoes -v and -q."),
            visible,
            item("XDG_RUNTIME_DIR", "Where the directory for sockets is; without it, TMPDIR or /tmp is taken."),
            item("NO_COLOR", "When it is not empty, nothing is coloured."),
            text("Most options of gpu-balloon-hold(1) and gpu-balloon-run(1) can be given by variables too."),
        ]),
        Some("hold") => parts.extend([
            visible,
            item(
                "NOTIFY_SOCKET",
                "Where to send READY=1 once everything is held, as systemd services of Type=notify do.",
            ),
        ]),
        Some("run") => parts.extend([
            visible,
            text("For the command, run sets:"),
            item(
                "CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER",
                "Exactly the reserved GPUs, unless --keep-visible is given.",
            ),
            item("GPU_BALLOON_GPUS", "The reserved GPUs as the ready line of gpu-balloon-hold(1) shows them."),
            item("GPU_BALLOON_HOLDER", "The pid of run, which resize, release and status take for the balloon's name."),
            item("LD_PRELOAD", "The library that takes part in the handover, and behind it what was there before."),
        ]),
        Some("status") => parts.extend([visible, item("NO_COLOR", "When it is not empty, nothing is coloured.")]),
        Some("resize" | "release" | "doctor") => parts.push(visible),
        Some(_) => {}
    }
    parts
}

/// The variables that stand for options.
fn stand_ins(verb: &str) -> Option<Part> {
    let command = command();
    let options = command.find_subcommand(verb)?.get_arguments();
    let names: Vec<_> = options.filter_map(|option| Some(option.get_env()?.to_str()?.to_owned())).collect();
    (!names.is_empty()).then(|| Part::Item(names.join(", "), "Each stands for the option of its name.".to_owned()))
}

fn files(verb: Option<&str>) -> Vec<Part> {
    match verb {
        None => vec![item(
            "$XDG_RUNTIME_DIR/gpu-balloon/",
            "One file and one socket for each holder of this user, mode 0700; else gpu-balloon-UID in the temporary \
             directory.",
        )],
        Some("hold") => vec![item(
            "$XDG_RUNTIME_DIR/gpu-balloon/PID.log",
            "What a holder started with --detach has to say after it is ready.",
        )],
        Some("run") => vec![item(
            "$XDG_RUNTIME_DIR/gpu-balloon/PID.log",
            "With --detach, what the command prints unless that is redirected, and what run has to say.",
        )],
        _ => Vec::new(),
    }
}

fn signals(verb: Option<&str>) -> Vec<Part> {
    match verb {
        Some("hold") => vec![
            item(
                "INT, TERM, HUP",
                "Release everything and exit with 0; before everything is held, give back what was taken and exit with \
                 128+n. A second one ends a release that is under way at once. One that was ignored at the start, as HUP is \
                 under nohup(1), stays ignored.",
            ),
            item(
                "KILL",
                "The driver frees the memory; what is left in the runtime directory is cleared by the next one.",
            ),
        ],
        Some("run") => vec![text(
            "Once the command runs, every signal that another process sends to run goes on to the command, and ^C, ^Z and \
             the like reach it from the terminal as if it ran alone. When run is killed outright, the command gets TERM.",
        )],
        _ => Vec::new(),
    }
}

fn examples(verb: Option<&str>) -> Vec<Part> {
    match verb {
        None => vec![
            text("Train with 40 GB on the two GPUs that have the most room, once there are two with that much:"),
            Part::Code("gpu-balloon run --gpu any:2 --reserve 40GB --wait -- python train.py"),
            text("Hold 2 GB on GPU 0 until ^C, and see it from another shell:"),
            Part::Code("gpu-balloon hold --gpu 0 --reserve 2GB --name mine\ngpu-balloon status"),
        ],
        Some("hold") => vec![
            text("For the rest of a script, in the background:"),
            Part::Code(
                "gpu-balloon hold --gpu 0,1 --reserve 4GB,50% --name prep --detach\n\
                 trap 'gpu-balloon release prep --if-exists' EXIT",
            ),
            text("For as long as another process lives:"),
            Part::Code("gpu-balloon hold --reserve all-2GB --until-exit 4242 --detach"),
        ],
        Some("run") => vec![
            Part::Code("gpu-balloon run --reserve 20GB -- python train.py"),
            text("Wait ten minutes at most, and say at the end what would have been enough:"),
            Part::Code("gpu-balloon run --reserve 20GB --wait=10m --summary -- python train.py"),
        ],
        Some("status") => vec![
            text("How much the balloons hold on each GPU, for a script:"),
            Part::Code("gpu-balloon status --json | jq '.gpus[] | {gpu_id, balloon_bytes}'"),
        ],
        Some("resize") => vec![Part::Code(
            "gpu-balloon resize prep 5GB\n\
                 gpu-balloon resize prep +1GB --gpu 0",
        )],
        Some("release") => vec![Part::Code(
            "gpu-balloon release prep\n\
                 gpu-balloon release --all",
        )],
        Some("completions") => vec![Part::Code(
            "gpu-balloon completions bash > ~/.local/share/bash-completion/completions/gpu-balloon\n\
             gpu-balloon completions fish > ~/.config/fish/completions/gpu-balloon.fish\n\
             gpu-balloon completions zsh > \"${fpath[1]}/_gpu-balloon\"",
        )],
        Some(_) => Vec::new(),
    }
}

fn see_also(verb: Option<&str>) -> Vec<Part> {
    let pages: &[&str] = match verb {
        None => &["gpu-balloon-hold(1)", "gpu-balloon-run(1)", "gpu-balloon-status(1)", "nvidia-smi(1)"],
        Some("hold") => &["gpu-balloon(1)", "gpu-balloon-release(1)", "gpu-balloon-resize(1)", "gpu-balloon-run(1)"],
        Some("run") => &["gpu-balloon(1)", "gpu-balloon-hold(1)", "gpu-balloon-status(1)"],
        Some("status") => &["gpu-balloon(1)", "gpu-balloon-doctor(1)", "nvidia-smi(1)"],
        Some(_) => &["gpu-balloon(1)", "gpu-balloon-hold(1)"],
    };
    vec![Part::Text(pages.join(", "))]
}
