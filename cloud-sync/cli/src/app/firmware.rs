//! `[firmware.NAME]`: images for devices.

use std::collections::BTreeMap;
use std::path::PathBuf;

use device_protocol::limits::WORD_MAX;
use edge_agent::toml_reader::{At, Problems, Section};
use sync_protocol::limits;
use sync_protocol::manifest::{self, DevicePattern, ImageKind};

use super::Firmware;
use super::read::name_is_good;
use super::values::{needed, small};
use crate::failure::{Done, Failure};

/// Reads all of them.
pub(super) fn read(
    root: &mut Section<'_, '_>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Firmware> {
    let sections = root.named_sections("firmware", problems);
    let max = limits::FIRMWARE_MAX;
    if sections.len() > max {
        problems.add(&(0..0), format!("an app has at most {max} images for devices"));
    }
    let mut all = BTreeMap::new();
    let mut known: Vec<(String, DevicePattern)> = Vec::new();
    for (name, mut section) in sections {
        name_is_good("firmware name", &name, problems);
        let span = section.span();
        let patterns = section.strings("devices", problems);
        let firmware = read_one(&mut section, &patterns, problems);
        section.finish(problems);
        if patterns.is_empty() {
            problems.add(&span, "the firmware needs `devices = [\"NAME\", \"BEGINNING-*\"]`");
        }
        patterns_are_good("firmware", &name.value, &patterns, &mut known, problems);
        if let Some(firmware) = firmware {
            all.insert(name.value, firmware);
        }
    }
    all
}

fn read_one(
    section: &mut Section<'_, '_>,
    patterns: &[At<String>],
    problems: &mut Problems<'_>,
) -> Option<Firmware> {
    let image = needed(section, "image", problems);
    let board = needed(section, "board", problems);
    let (version_at, floor_at) = (section.span_of("version"), section.span_of("floor"));
    let version = small(section.number("version", 0..=u32::MAX.into(), problems));
    let floor = small(section.number("floor", 0..=u32::MAX.into(), problems)).unwrap_or(0);
    match version {
        None if version_at == section.span() => {
            problems.add(&version_at, "the firmware needs `version`, a number");
        }
        Some(version) if floor > version => {
            problems.add(&floor_at, format!("`floor` {floor} is above `version` {version}"));
        }
        _ => {}
    }
    if let Some(at) = &board
        && (at.value.len() > WORD_MAX || at.value.chars().any(char::is_control))
    {
        problems.add(&at.span, format!("`board` has 1 to {WORD_MAX} printable bytes"));
    }
    Some(Firmware {
        image: PathBuf::from(image?.value),
        board: board?.value,
        version: version?,
        floor,
        devices: patterns.iter().map(|at| at.value.clone()).collect(),
    })
}

/// A device must not be meant by two images of one kind: it would be offered now the one, now the other.
pub(super) fn patterns_are_good(
    kind: &str,
    name: &str,
    patterns: &[At<String>],
    known: &mut Vec<(String, DevicePattern)>,
    problems: &mut Problems<'_>,
) {
    let max = limits::FIRMWARE_PATTERNS_MAX;
    if let Some(over) = patterns.get(max) {
        problems.add(&over.span, format!("`devices` has at most {max} patterns"));
    }
    for at in patterns.iter().take(max) {
        let pattern: DevicePattern = match at.value.parse() {
            Ok(pattern) => pattern,
            Err(error) => {
                problems.add(&at.span, format!("`devices`: \"{}\": {error}", at.value));
                continue;
            }
        };
        let meets = known.iter().find(|(of, other)| of != name && other.overlaps(&pattern));
        if let Some((other, meeting)) = meets {
            let why = format!(
                "`devices`: \"{pattern}\" meets \"{meeting}\" of {kind} `{other}`: a device would have two \
                 images; make one narrower"
            );
            problems.add(&at.span, why);
        }
        known.push((name.to_owned(), pattern));
    }
}

/// The firmware of the manifest, unsigned.
///
/// # Errors
/// An image is missing.
pub(super) fn manifest(
    firmware: &BTreeMap<String, Firmware>,
    images: &BTreeMap<String, Vec<u8>>,
) -> Done<BTreeMap<String, manifest::Firmware>> {
    let entry = |(name, firmware): (&String, &Firmware)| {
        let bytes = images.get(name);
        let bytes =
            bytes.ok_or_else(|| Failure::failed(format!("no image of firmware `{name}`")))?;
        let entry = manifest::Firmware {
            kind: ImageKind::Firmware,
            artifact: sync_protocol::Digest::of(bytes),
            size: bytes.len() as u64,
            board: firmware.board.clone(),
            version: firmware.version,
            floor: firmware.floor,
            devices: firmware.devices.clone(),
            signature: String::new(),
        };
        Ok((name.clone(), entry))
    };
    firmware.iter().map(entry).collect()
}
