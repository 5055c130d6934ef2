//! Problems of the firmware of a manifest.

use device_protocol::limits::{IMAGE_MAX, WORD_MAX};

use super::Findings;
use crate::limits::{FIRMWARE_MAX, FIRMWARE_PATTERNS_MAX};
use crate::manifest::{DevicePattern, Firmware, ImageKind, Manifest};

pub(super) fn all(manifest: &Manifest, found: &mut Findings) {
    found.range("firmware", manifest.firmware.len(), 0..=FIRMWARE_MAX);
    let mut known: Vec<(&str, ImageKind, DevicePattern)> = Vec::new();
    for (name, firmware) in manifest.firmware.iter().take(FIRMWARE_MAX) {
        let path = format!("firmware.{name}");
        found.name(&path, name);
        one(&path, firmware, found);
        let path = format!("{path}.devices");
        found.range(&path, firmware.devices.len(), 1..=FIRMWARE_PATTERNS_MAX);
        for text in firmware.devices.iter().take(FIRMWARE_PATTERNS_MAX) {
            let pattern: DevicePattern = match text.parse() {
                Ok(pattern) => pattern,
                Err(error) => {
                    found.add(&path, format!("{text:?}: {error}"));
                    continue;
                }
            };
            let meets = |(of, kind, other): &&(&str, ImageKind, DevicePattern)| {
                *of != name && *kind == firmware.kind && other.overlaps(&pattern)
            };
            if let Some((other, _, meeting)) = known.iter().find(meets) {
                let text = format!(
                    "{text:?} meets \"{meeting}\" of firmware.{other}: a device would have two images; make \
                     one narrower"
                );
                found.add(&path, text);
            }
            known.push((name, firmware.kind, pattern));
        }
    }
}

fn one(path: &str, firmware: &Firmware, found: &mut Findings) {
    found.range(&format!("{path}.size"), firmware.size, 1..=u64::from(IMAGE_MAX));
    let board = &firmware.board;
    if board.is_empty() || board.len() > WORD_MAX || board.chars().any(char::is_control) {
        found.add(&format!("{path}.board"), format!("needs 1 to {WORD_MAX} printable bytes"));
    }
    if firmware.floor > firmware.version {
        let (floor, version) = (firmware.floor, firmware.version);
        let text = format!("{floor} is above the version {version}: the image would refuse itself");
        found.add(&format!("{path}.floor"), text);
    }
    let signature = &firmware.signature;
    let is_lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if !signature.is_empty() && (signature.len() != 128 || !signature.bytes().all(is_lower_hex)) {
        found.add(&format!("{path}.signature"), "must be 128 digits of lower-case hexadecimal");
    }
}
