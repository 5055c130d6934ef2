//! `[device-function.NAME]`: functions of the app that devices run themselves.

use std::collections::BTreeMap;

use edge_agent::runtime::{DEVICE_TARGET, WASMTIME_VERSION};
use edge_agent::toml_reader::{At, Problems, Section};
use sync_protocol::device_image::{DeviceImageError, offer_version, platform};
use sync_protocol::limits;
use sync_protocol::manifest::{self, DevicePattern, ImageKind, Manifest};

use super::firmware::patterns_are_good;
use super::read::name_is_good;
use super::values::needed;
use super::{DeviceFunction, Function};
use crate::failure::{Done, Failure};

/// Reads all of them; `taken` names the images of `[firmware.NAME]`.
pub(super) fn read(
    root: &mut Section<'_, '_>,
    functions: &BTreeMap<String, At<Function>>,
    taken: impl Fn(&str) -> bool,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, DeviceFunction> {
    let sections = root.named_sections("device-function", problems);
    let max = limits::FIRMWARE_MAX;
    if sections.len() > max {
        problems.add(&(0..0), format!("an app has at most {max} functions for devices"));
    }
    let mut all = BTreeMap::new();
    let mut known: Vec<(String, DevicePattern)> = Vec::new();
    for (name, mut section) in sections {
        name_is_good("device-function name", &name, problems);
        if taken(&name.value) {
            let why = format!("[firmware.{}] has this name: give one of them another", name.value);
            problems.add(&name.span, why);
        }
        let span = section.span();
        let function = needed(&mut section, "function", problems);
        if let Some(at) = &function
            && !functions.contains_key(&at.value)
        {
            let why = format!("`function`: the app has no [functions.{}]", at.value);
            problems.add(&at.span, why);
        }
        let patterns = section.strings("devices", problems);
        section.finish(problems);
        if patterns.is_empty() {
            problems.add(&span, "the function needs `devices = [\"NAME\", \"BEGINNING-*\"]`");
        }
        patterns_are_good("device-function", &name.value, &patterns, &mut known, problems);
        if let Some(function) = function {
            let devices = patterns.into_iter().map(|at| at.value).collect();
            all.insert(name.value, DeviceFunction { function: function.value, devices });
        }
    }
    all
}

/// Their images in the manifest, not offered to anybody before they are signed.
///
/// # Errors
/// An image is missing, or the app's version is too large to be offered.
pub(super) fn manifest(
    functions: &BTreeMap<String, DeviceFunction>,
    manifest: &Manifest,
    images: &BTreeMap<String, Vec<u8>>,
) -> Done<BTreeMap<String, manifest::Firmware>> {
    let offered = |sequence| {
        let failed = || Failure::input(DeviceImageError::Version.to_string());
        offer_version(sequence).ok_or_else(failed)
    };
    let entry = |(name, function): (&String, &DeviceFunction)| {
        let missing = || Failure::failed(format!("no image of device-function `{name}`"));
        let bytes = images.get(name).ok_or_else(missing)?;
        let entry = manifest::Firmware {
            kind: ImageKind::Function,
            artifact: sync_protocol::Digest::of(bytes),
            size: bytes.len() as u64,
            board: platform(DEVICE_TARGET, WASMTIME_VERSION),
            version: offered(manifest.sequence)?,
            floor: offered(manifest.floor)?,
            devices: function.devices.clone(),
            signature: String::new(),
        };
        Ok((name.clone(), entry))
    };
    functions.iter().map(entry).collect()
}
