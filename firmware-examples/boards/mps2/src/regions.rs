//! Who owns which part of flash. An offset here is the offset in the host's file, too.
//!
//! A region goes to one owner, by value. What is not named is free for later.

use crate::flash::{Flash, PAGE_BYTES};
use crate::psram::PSRAM_BYTES;

/// A range of flash, of whole pages.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Where it begins, from the beginning of flash.
    pub offset: usize,
    /// How long it is.
    pub bytes: usize,
}

/// Provisioning: two copies of one blob, each with its checksum, written by the host before the first
/// start.
pub const PROVISIONING: [Range; 2] = [pages(0, 1), pages(1, 1)];
/// What the device's random generator goes on from, on machines without entropy of a host.
pub const SEED: Range = pages(2, 1);
/// The offline queue: a page for the owner's mark and 63 of records.
pub const QUEUE: Range = pages(16, 64);
/// Firmware update: what the boot loader is to do next, and how far it is.
pub const UPDATE_STATE: Range = pages(256, 2);
/// Firmware update: the image that runs.
pub const UPDATE_ACTIVE: Range = pages(512, 256);
/// Firmware update: the image that was downloaded, with the page more that a swap needs, and a page of notes on it.
pub const UPDATE_DOWNLOAD: Range = pages(1024, 258);
/// Where the image lies in [`UPDATE_DOWNLOAD`], in bytes.
pub const DOWNLOAD_IMAGE: core::ops::Range<u32> = 0..257 * PAGE;
/// Where the notes lie in [`UPDATE_DOWNLOAD`], in bytes.
pub const DOWNLOAD_NOTES: core::ops::Range<u32> = 257 * PAGE..258 * PAGE;

const PAGE: u32 = 4096;
const _: () = assert!(PAGE as usize == PAGE_BYTES);

/// Which of the two functions runs.
pub const FUNCTION_CHOICE: Range = pages(1296, 2);
/// Function update: how far it is.
pub const FUNCTION_NOTES: Range = pages(1298, 2);
/// State and outputs of the function.
pub const FUNCTION_STATE: Range = pages(1312, 32);
/// Two functions: the one that runs, in place, and the next or the former one. An image of 1 MiB and a page each.
pub const FUNCTION_SLOTS: [Range; 2] = [pages(1536, 257), pages(2048, 257)];

const ALL: [Range; 12] = [
    PROVISIONING[0],
    PROVISIONING[1],
    SEED,
    QUEUE,
    UPDATE_STATE,
    UPDATE_ACTIVE,
    UPDATE_DOWNLOAD,
    FUNCTION_CHOICE,
    FUNCTION_NOTES,
    FUNCTION_STATE,
    FUNCTION_SLOTS[0],
    FUNCTION_SLOTS[1],
];
const _: () = assert!(in_order(&ALL), "regions overlap or leave the flash");

/// The regions, each for one owner.
#[derive(Debug)]
pub struct Regions {
    /// See [`PROVISIONING`].
    pub provisioning: [Flash; 2],
    /// See [`SEED`].
    pub seed: Flash,
    /// See [`QUEUE`].
    pub queue: Flash,
    /// See [`UPDATE_STATE`].
    pub update_state: Flash,
    /// See [`UPDATE_ACTIVE`].
    pub update_active: Flash,
    /// See [`UPDATE_DOWNLOAD`].
    pub update_download: Flash,
    /// See [`FUNCTION_CHOICE`].
    pub function_choice: Flash,
    /// See [`FUNCTION_NOTES`].
    pub function_notes: Flash,
    /// See [`FUNCTION_STATE`].
    pub function_state: Flash,
    /// See [`FUNCTION_SLOTS`].
    pub function_slots: [Flash; 2],
}

impl Regions {
    pub(crate) const fn new() -> Self {
        Self {
            provisioning: [flash(PROVISIONING[0]), flash(PROVISIONING[1])],
            seed: flash(SEED),
            queue: flash(QUEUE),
            update_state: flash(UPDATE_STATE),
            update_active: flash(UPDATE_ACTIVE),
            update_download: flash(UPDATE_DOWNLOAD),
            function_choice: flash(FUNCTION_CHOICE),
            function_notes: flash(FUNCTION_NOTES),
            function_state: flash(FUNCTION_STATE),
            function_slots: [flash(FUNCTION_SLOTS[0]), flash(FUNCTION_SLOTS[1])],
        }
    }
}

const fn pages(first: usize, count: usize) -> Range {
    Range { offset: first * PAGE_BYTES, bytes: count * PAGE_BYTES }
}

const fn flash(range: Range) -> Flash {
    Flash::new(range.offset, range.bytes)
}

const fn in_order(ranges: &[Range]) -> bool {
    let mut end = 0;
    let mut index = 0;
    while index < ranges.len() {
        if ranges[index].offset < end {
            return false;
        }
        end = ranges[index].offset + ranges[index].bytes;
        index += 1;
    }
    end <= PSRAM_BYTES
}
