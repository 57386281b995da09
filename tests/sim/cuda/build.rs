//! How the library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The name by which programs ask for it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    // Like the real one it never calls itself through what others may have put in front of it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic-functions");
}
