//! Puts the linker scripts where the link of a firmware finds them.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let out = std::env::var("OUT_DIR").expect("invariant: cargo sets OUT_DIR");
    let in_slot = std::env::var_os("CARGO_FEATURE_SLOT").is_some();
    let memory = if in_slot { "memory-slot.x" } else { "memory.x" };
    for (script, name) in [(memory, "memory.x"), ("device.x", "device.x")] {
        std::fs::copy(script, Path::new(&out).join(name))?;
        println!("cargo::rerun-if-changed={script}");
    }
    println!("cargo::rustc-link-search={out}");
    Ok(())
}
