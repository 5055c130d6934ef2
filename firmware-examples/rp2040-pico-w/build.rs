//! Finds the firmware of the Wi-Fi chip, which has a licence of its own and is not part of this repository.

use std::env;
use std::path::PathBuf;

const FILES: [&str; 3] = ["43439A0.bin", "43439A0_clm.bin", "nvram_rp2040.bin"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rerun-if-env-changed=CYW43_FIRMWARE");
    if env::var_os("CARGO_FEATURE_BLOBLESS").is_some() {
        return;
    }
    let Some(folder) = env::var_os("CYW43_FIRMWARE").map(PathBuf::from) else {
        println!(
            "cargo::error=CYW43_FIRMWARE is not set: the folder with the firmware of the Wi-Fi chip ({}). README.md \
             says where it comes from; to build without it: --features blobless",
            FILES.join(", ")
        );
        return;
    };
    for file in FILES {
        let path = folder.join(file);
        println!("cargo::rerun-if-changed={}", path.display());
        match std::fs::metadata(&path) {
            Ok(found) if found.len() > 0 => {}
            Ok(_) => println!("cargo::error={} is empty", path.display()),
            Err(error) => println!("cargo::error={}: {error}", path.display()),
        }
    }
    let folder = std::path::absolute(&folder).expect("CYW43_FIRMWARE is a path");
    println!("cargo::rustc-env=CYW43_FIRMWARE_FOLDER={}", folder.display());
}
