//! The name by which programs ask for NVML.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnvidia-ml.so.1");
    // Its own table of symbols needs no dynamic linker, so that a sandbox can take a symbol away.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic");
}
