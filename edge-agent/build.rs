//! Tells the program what it is built for: an update must be for the same.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").expect("cargo says it");
    println!("cargo::rustc-env=HOLM_TARGET={target}");
}
