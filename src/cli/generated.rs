//! The committed man pages and completions come from the command line's definition, and these tests hold them current:
//! `BLESS=1 cargo test generated` rewrites them.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap_complete::{Generator, Shell};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::command::{self, command};
use crate::cli::manual::{Part, sections};
use crate::cli::shells::output_of;
use crate::exit::Exit;

const SOURCE: &str = concat!("gpu-balloon ", env!("CARGO_PKG_VERSION"));

/// What the roff crate puts in front of everything it renders: the plain apostrophe.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// A committed file and what it should say.
struct Generated {
    path: String,
    content: String,
}

fn man_pages() -> Vec<Generated> {
    let mut program = command().disable_help_subcommand(true);
    program.build();
    let verbs: Vec<_> =
        program.get_subcommands().map(|verb| (Some(verb.get_name().to_owned()), verb.clone())).collect();
    let pages = [(None, program)].into_iter().chain(verbs);
    pages.map(|(verb, command)| man_page(verb.as_deref(), command)).collect()
}

fn man_page(verb: Option<&str>, mut command: clap::Command) -> Generated {
    let usage = command.render_usage().to_string();
    let command = command.override_usage(usage.trim_start_matches("Usage: ").to_owned());
    let title = command.get_display_name().unwrap_or("gpu-balloon").to_uppercase();
    let has_verbs = command.has_subcommands();
    let man = Man::new(command).title(title).date(released()).source(SOURCE).manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    if has_verbs {
        man.render_subcommands_section(&mut page).unwrap();
    }
    our_sections(verb).to_writer(&mut page).unwrap();
    Generated { path: format!("man/{}", man.get_filename()), content: tidy(&String::from_utf8(page).unwrap()) }
}

/// The date of the version in the changelog, which a man page shows.
fn released() -> &'static str {
    let heading = concat!("## ", env!("CARGO_PKG_VERSION"), " - ");
    let changelog = include_str!("../../CHANGELOG.md");
    changelog.lines().find_map(|line| line.strip_prefix(heading)).expect("the changelog has this version and its date")
}

fn our_sections(verb: Option<&str>) -> Roff {
    let mut page = Roff::new();
    for section in sections(verb) {
        page.control("SH", [section.title]);
        let mut first = true;
        for part in section.parts {
            match part {
                Part::Text(text) if first => page.text([roman(text)]),
                Part::Text(text) => page.control("PP", []).text([roman(text)]),
                Part::Item(term, meaning) => page.control("TP", []).text([bold(term)]).text([roman(meaning)]),
                Part::Code(lines) => {
                    page.control("RS", ["4"]).control("nf", []);
                    for line in lines.lines() {
                        page.text([roman(line)]);
                    }
                    page.control("fi", []).control("RE", [])
                }
            };
            first = false;
        }
    }
    page
}

/// What `mandoc -T lint` asks for and clap_mangen leaves undone: one preamble instead of one a section, `.sp` for a blank
/// line and no break beside it, lines of at most 80 bytes. And words in backticks become bold.
fn tidy(page: &str) -> String {
    let mut tidied = PREAMBLE.to_owned();
    let mut verbatim = false;
    let page = page.replace(PREAMBLE, "").replace("\n.br\n\n.br\n", "\n\n");
    for line in page.lines() {
        match line {
            "" => tidied.push_str(".sp\n"),
            line if verbatim || line.starts_with('.') => tidied.extend([line, "\n"]),
            line => wrap(&mut tidied, &in_bold(line)),
        }
        verbatim = line == ".nf" || verbatim && line != ".fi";
    }
    tidied
}

fn wrap(page: &mut String, line: &str) {
    let mut width = 0;
    for word in line.split_whitespace() {
        if width > 0 {
            let fits = width + 1 + word.len() <= 80;
            page.push(if fits { ' ' } else { '\n' });
            width = if fits { width + 1 } else { 0 };
        }
        page.push_str(word);
        width += word.len();
    }
    page.push('\n');
}

fn in_bold(line: &str) -> String {
    let mut parts = line.split('`');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        text.push_str(if index % 2 == 0 { "\\fB" } else { "\\fR" });
        text.push_str(part);
    }
    text
}

fn completions() -> Vec<Generated> {
    let file = |shell: Shell| {
        let path = format!("completions/{}", shell.file_name("gpu-balloon"));
        Generated { path, content: command::completions(shell) }
    };
    [Shell::Bash, Shell::Zsh, Shell::Fish].into_iter().map(file).collect()
}

fn assert_current(directory: &str, files: &[Generated]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(root.join(directory)).unwrap();
        for file in files {
            fs::write(root.join(&file.path), &file.content).unwrap();
        }
    }
    let mut committed: Vec<_> = fs::read_dir(root.join(directory))
        .unwrap()
        .map(|file| format!("{directory}/{}", file.unwrap().file_name().into_string().unwrap()))
        .collect();
    committed.sort();
    let mut expected: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
    expected.sort();
    assert_eq!(committed, expected, "`BLESS=1 cargo test generated` rewrites {directory}/");
    for file in files {
        let committed = fs::read_to_string(root.join(&file.path)).unwrap();
        assert!(committed == file.content, "{} is out of date: `BLESS=1 cargo test generated` rewrites it", file.path);
    }
}

#[test]
fn man_pages_are_current() {
    assert_current("man", &man_pages());
}

#[test]
fn completions_are_current() {
    assert_current("completions", &completions());
}

#[test]
fn man_pages_pass_mandocs_lint() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("man")).unwrap();
    let pages = man_pages();
    for page in &pages {
        fs::write(directory.path().join(&page.path), &page.content).unwrap();
    }
    let mut mandoc = Command::new("mandoc");
    mandoc.args(["-T", "lint"]).args(pages.iter().map(|page| &page.path)).current_dir(&directory);
    let Some(lint) = output_of(&mut mandoc) else { return };
    assert_eq!(String::from_utf8_lossy(&lint.stdout), "");
    assert!(lint.status.success());
}

#[test]
fn the_readme_tells_the_exit_codes_in_the_same_words() {
    let readme = include_str!("../../README.md");
    let table = Exit::COMMON.map(|exit| format!("| {} | {} |", exit as u8, exit.meaning()));
    let run = Exit::OF_RUN.map(|exit| format!("{}: {}", exit as u8, exit.meaning()));
    for told in table.iter().chain(&run) {
        assert!(readme.replace('\n', " ").contains(told.as_str()), "no `{told}` in the README");
    }
}
