//! What an image says of itself: which version it is, and which versions the device declines from then on.
//!
//! The words stand in the image behind a mark, so that a tool finds them there and can set them after the build: 16 bytes
//! `holm-image-label`, version, floor and drill, 4 bytes each, little endian. They must be set before the image is signed, and
//! be those of its `[firmware]` in `holm.toml`. Without a tool they are what the environment said at the build:
//! `HOLM_IMAGE_VERSION` (1) and `HOLM_IMAGE_FLOOR` (0).

#![allow(
    unsafe_code,
    reason = "words that a tool may have set are read as the volatile memory that they are"
)]

/// An image's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its version.
    pub version: u32,
    /// Versions below this one are declined while it runs.
    pub floor: u32,
    /// What it does wrong on purpose.
    pub drill: Option<Drill>,
}

/// What an image does wrong on purpose, to show that it is taken back. A number in its label, 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// 1: it never speaks with the gateway.
    Mute,
    /// 2: it hangs at its start.
    Hang,
    /// 3: it faults at its start.
    Fault,
}

#[repr(C)]
struct Words {
    mark: [u8; 16],
    version: u32,
    floor: u32,
    drill: u32,
}

#[used]
static WORDS: Words = Words {
    mark: *b"holm-image-label",
    version: number(option_env!("HOLM_IMAGE_VERSION"), 1),
    floor: number(option_env!("HOLM_IMAGE_FLOOR"), 0),
    drill: 0,
};

/// The label of the image that runs.
#[must_use]
pub fn label() -> Label {
    // SAFETY: a static, aligned and initialized; volatile because the words may be others than the compiler knows of.
    let words = unsafe { core::ptr::read_volatile(&raw const WORDS) };
    let drill = match words.drill {
        1 => Some(Drill::Mute),
        2 => Some(Drill::Hang),
        3 => Some(Drill::Fault),
        _ => None,
    };
    Label { version: words.version, floor: words.floor, drill }
}

impl Drill {
    /// Hangs or faults, if that is what it is.
    pub fn perform(self) {
        match self {
            Self::Mute => {}
            Self::Hang => {
                crate::log!("drill: this image hangs");
                cortex_m::interrupt::disable();
                loop {
                    cortex_m::asm::nop();
                }
            }
            Self::Fault => {
                crate::log!("drill: this image faults");
                cortex_m::asm::udf()
            }
        }
    }
}

const fn number(text: Option<&str>, otherwise: u32) -> u32 {
    let Some(text) = text else { return otherwise };
    let (digits, mut number, mut at) = (text.as_bytes(), 0_u32, 0);
    assert!(
        !digits.is_empty() && digits.len() <= 9,
        "HOLM_IMAGE_VERSION and HOLM_IMAGE_FLOOR are up to 9 digits"
    );
    while at < digits.len() {
        assert!(digits[at].is_ascii_digit(), "HOLM_IMAGE_VERSION and HOLM_IMAGE_FLOOR are numbers");
        number = number * 10 + (digits[at] - b'0') as u32;
        at += 1;
    }
    number
}
