//! Builds the library that goes into the job, which the binary carries inside. It is compiled by the same compiler for the
//! same target as the binary; it needs no other crate, so `cargo install` needs nothing more than for any Rust program.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "src/handover/preload";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    let library = Path::new(&variable("OUT_DIR")).join("preload.so");
    let mut compiler = Command::new(variable("RUSTC"));
    compiler
        .args(["--crate-name", "gpu_balloon_preload", "--crate-type", "cdylib", "--edition", "2024"])
        .arg("--target")
        .arg(variable("TARGET"))
        // Whole-program optimization leaves nothing of `core` but what is called: no unwinding, no formatting.
        .args(["-C", "panic=abort", "-C", "opt-level=3", "-C", "lto=fat", "-C", "codegen-units=1"])
        .args(["-C", "strip=symbols", "-C", "link-arg=-nostartfiles"])
        .arg("-o")
        .arg(&library)
        .arg(Path::new(SOURCE).join("lib.rs"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        compiler.arg("-C").arg(option);
    }
    let status = compiler.status().unwrap_or_else(|error| panic!("cannot run {compiler:?}: {error}"));
    assert!(status.success(), "the library that goes into the job does not compile: {compiler:?}");
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name} for build scripts"))
}
