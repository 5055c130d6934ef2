//! Puts the linker scripts where the link of a firmware finds them.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let out = std::env::var("OUT_DIR").expect("invariant: cargo sets OUT_DIR");
    for script in ["memory.x", "device.x"] {
        std::fs::copy(script, Path::new(&out).join(script))?;
        println!("cargo::rerun-if-changed={script}");
    }
    println!("cargo::rustc-link-search={out}");
    Ok(())
}
