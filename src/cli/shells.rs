//! The committed completions, loaded in the real shells.
#![allow(clippy::print_stdout, reason = "a test says why it tested nothing")]

use std::io::ErrorKind;
use std::process::{Command, Output};

/// What `command` prints; `None` where its program is not installed, which CI does not let pass.
pub fn output_of(command: &mut Command) -> Option<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            println!("skipped: {program} is not installed");
            None
        }
        Err(error) => panic!("cannot run {program}: {error}"),
    }
}

/// The candidates that `script` prints, one a line, when `shell` runs it at the project's root.
fn candidates(shell: &[&str], script: &str) -> Option<Vec<String>> {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(script).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = output_of(&mut command)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", shell[0]);
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn assert_contains(candidates: Option<Vec<String>>, wanted: &str) {
    if let Some(candidates) = candidates {
        assert!(candidates.iter().any(|candidate| candidate == wanted), "no `{wanted}` among {candidates:?}");
    }
}

#[test]
fn bash_completes_verbs_and_options() {
    let complete = |words: &str| {
        let script = format!(
            "source completions/gpu-balloon.bash
             [[ $(complete -p gpu-balloon) =~ -F\\ ([^ ]+) ]]
             COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
             \"${{BASH_REMATCH[1]}}\" gpu-balloon \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        candidates(&["bash", "--norc", "-c"], &script)
    };
    assert_contains(complete("gpu-balloon re"), "resize");
    assert_contains(complete("gpu-balloon hold --ti"), "--timeout");
    assert_contains(complete("gpu-balloon run --handover pre"), "preload");
}

#[test]
fn fish_completes_verbs_and_options() {
    let complete = |line: &str| {
        let script = format!("source completions/gpu-balloon.fish; complete -C '{line}' | string split -f 1 \\t");
        candidates(&["fish", "--no-config", "-c"], &script)
    };
    assert_contains(complete("gpu-balloon re"), "resize");
    assert_contains(complete("gpu-balloon hold --ti"), "--timeout");
    assert_contains(complete("gpu-balloon run --handover pre"), "preload");
}

/// zsh completes only where somebody types: in a terminal, with the Tab key. Another key then tells what the line has become.
#[test]
fn zsh_completes_verbs_and_options() {
    let complete = |line: &str| {
        let script = format!(
            r#"zmodload zsh/zpty
               zpty shell zsh -f
               zpty -w shell 'fpath=($PWD/completions $fpath); autoload -Uz compinit; compinit -D -u'
               zpty -w shell 'tell() {{ print -r -- "<$BUFFER>" }}; zle -N tell; bindkey "^X" tell; print read${{:-y}}'
               zpty -r -m shell answer '*ready*'
               zpty -w -n shell $'{line}\t\x18'
               zpty -r -m shell answer '*<*>*'
               answer=${{${{answer##*<}}%%>*}}
               print -rl -- ${{=answer}}"#
        );
        candidates(&["timeout", "30", "zsh", "-f", "-c"], &script)
    };
    assert_contains(complete("gpu-balloon resi"), "resize");
    assert_contains(complete("gpu-balloon hold --ti"), "--timeout=");
    assert_contains(complete("gpu-balloon run --handover pre"), "preload");
}
