//! A flash that is cut at every operation, and torn in the middle of one.

use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};
use futures_util::FutureExt as _;

use super::*;

const PAGE: usize = 256;
const IMAGE_PAGES: usize = 5;

#[derive(Clone, Copy, Debug)]
pub(in crate::update) struct Cut;

impl NorFlashError for Cut {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

/// Bits go from 1 to 0 by writes and back by erases only; after `left` operations the power is gone, in the middle of one.
#[derive(Clone)]
pub(in crate::update) struct Flash {
    bytes: Vec<u8>,
    left: usize,
}

impl Flash {
    pub(in crate::update) fn new() -> Self {
        Self { bytes: vec![0x5a; PAGE * (IMAGE_PAGES + 2)], left: usize::MAX }
    }

    /// How much of `length` bytes is done; an error after it when the power is gone.
    fn spend(&mut self, length: usize) -> (usize, Result<(), Cut>) {
        match self.left {
            0 => (0, Err(Cut)),
            1 => {
                self.left = 0;
                (length / 2 + 1, Err(Cut))
            }
            _ => {
                self.left -= 1;
                (length, Ok(()))
            }
        }
    }
}

impl ErrorType for Flash {
    type Error = Cut;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Cut> {
        let offset = offset as usize;
        bytes.copy_from_slice(&self.bytes[offset..offset + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 8;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Cut> {
        let (done, outcome) = self.spend((to - from) as usize);
        self.bytes[from as usize..from as usize + done].fill(0xff);
        outcome
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Cut> {
        assert!(bytes.len().is_multiple_of(8) && offset.is_multiple_of(8));
        let (done, outcome) = self.spend(bytes.len());
        for (place, byte) in self.bytes[offset as usize..].iter_mut().zip(&bytes[..done]) {
            assert_eq!(*place & *byte, *byte, "written without an erase");
            *place &= byte;
        }
        outcome
    }
}

#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
pub(in crate::update) fn layout() -> Layout {
    let end = (PAGE * IMAGE_PAGES) as u32;
    Layout { image: 0..end, notes: end..end + 2 * PAGE as u32 }
}

pub(in crate::update) fn image() -> Vec<u8> {
    (0..PAGE * 3 + 77).map(|index| u8::try_from(index * 7 % 251).unwrap()).collect()
}

pub(in crate::update) fn plan() -> Plan {
    let image = image();
    let digest = Sha256::digest(&image).into();
    Plan { digest, length: u32::try_from(image.len()).unwrap(), version: 3, floor: 2 }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("a flash in memory is ready")
}

impl Slot<Flash> {
    pub(in crate::update) fn into_flash(self) -> Flash {
        self.flash
    }
}

/// Fetches what is missing, in chunks of 64 bytes, verifies, arms.
pub(in crate::update) fn fetch(slot: &mut Slot<Flash>) -> Result<(), SlotError> {
    let image = image();
    let mut offset = now(slot.begin(&plan()))? as usize;
    while offset < image.len() {
        let end = (offset + 64).min(image.len());
        now(slot.write(u32::try_from(offset).unwrap(), &image[offset..end]))?;
        offset = end;
    }
    assert!(now(slot.verify())?, "what was written is what is there");
    now(slot.reached(Stage::Armed))
}

#[test]
fn after_a_cut_at_any_operation_fetching_goes_on_where_it_was_kept() {
    let mut whole = Flash::new();
    let mut resumed = 0;
    for cut in 1.. {
        let mut flash = Flash::new();
        flash.left = cut;
        let first = now(Slot::open(flash, layout())).unwrap();
        let mut first = first;
        if fetch(&mut first).is_ok() {
            whole = first.flash;
            break;
        }
        let mut flash = first.flash;
        flash.left = usize::MAX;
        let mut second = now(Slot::open(flash, layout())).unwrap();
        if let Some((found, stage)) = second.contents() {
            assert_eq!(*found, plan());
            match stage {
                Stage::Fetching(kept) => resumed = resumed.max(*kept),
                other => assert_eq!(*other, Stage::Armed),
            }
        }
        if second.contents().is_none_or(|(_, stage)| *stage != Stage::Armed) {
            fetch(&mut second).unwrap();
        }
        let third = now(Slot::open(second.flash, layout())).unwrap();
        assert_eq!(third.contents(), Some(&(plan(), Stage::Armed)), "cut {cut}");
    }
    assert!(resumed >= 3 * 256, "a cut near the end keeps the pages before it: {resumed}");
    assert_eq!(&whole.bytes[..image().len()], &image()[..]);
}

#[test]
fn an_image_that_was_taken_back_is_known_after_a_restart() {
    let mut slot = now(Slot::open(Flash::new(), layout())).unwrap();
    fetch(&mut slot).unwrap();
    now(slot.reached(Stage::TakenBack)).unwrap();
    let mut slot = now(Slot::open(slot.flash, layout())).unwrap();
    assert_eq!(slot.taken_back(), Some(&plan().digest));
    let other = Plan { version: 4, ..plan() };
    assert_eq!(now(slot.begin(&other)), Ok(0), "another image begins anew");
    assert_eq!(slot.taken_back(), None);
}

#[test]
fn bytes_that_changed_are_not_verified() {
    let mut slot = now(Slot::open(Flash::new(), layout())).unwrap();
    let image = image();
    now(slot.begin(&plan())).unwrap();
    for (index, chunk) in image.chunks(64).enumerate() {
        now(slot.write(u32::try_from(index * 64).unwrap(), chunk)).unwrap();
    }
    assert_eq!(now(slot.verify()), Ok(true));
    slot.flash.bytes[300] ^= 1;
    assert_eq!(now(slot.verify()), Ok(false));
}

#[test]
fn a_layout_that_does_not_fit_is_refused() {
    let open = |layout| now(Slot::open(Flash::new(), layout)).err();
    let Layout { image, notes } = layout();
    assert_eq!(
        open(Layout { image: 0..image.end - 8, notes: notes.clone() }),
        Some(SlotError::Layout)
    );
    assert_eq!(
        open(Layout { image: image.clone(), notes: image.clone() }),
        Some(SlotError::Layout)
    );
    let outside = notes.end..notes.end + 256;
    assert_eq!(open(Layout { image, notes: outside }), Some(SlotError::Layout));
    assert_eq!(open(layout()), None);
}

#[test]
fn the_floor_of_a_confirmed_image_holds_whatever_comes_after_it() {
    let mut slot = now(Slot::open(Flash::new(), layout())).unwrap();
    let again = |slot: Slot<Flash>| now(Slot::open(slot.flash, layout())).unwrap();
    fetch(&mut slot).unwrap();
    assert_eq!(slot.floor(), 0, "on trial it may be taken back");
    let mut slot = again(slot);
    assert_eq!(slot.floor(), 0);
    now(slot.reached(Stage::Confirmed)).unwrap();
    assert_eq!(slot.floor(), 2);
    for floor in [1, 9] {
        let next = Plan { version: 7, floor, ..plan() };
        now(slot.begin(&next)).unwrap();
        now(slot.begin_anew(&next)).unwrap();
        slot = again(slot);
        assert_eq!((slot.floor(), slot.contents()), (2, Some(&(next, Stage::Fetching(0)))));
        now(slot.reached(Stage::TakenBack)).unwrap();
        slot = again(slot);
        assert_eq!(slot.floor(), 2, "the image that set another one was taken back");
    }
}
