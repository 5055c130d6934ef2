//! [`Boot`] by embassy-boot: its state partition says which image runs and which is to run.
//!
//! The image of the [`super::Layout`] is its DFU partition, which has one page more than the active one. embassy-boot marks
//! a swap before it begins, page by page, so that a power cut in it is mended at the next start.

use core::fmt;

use embassy_boot::{FirmwareState, FirmwareUpdaterError, State};
use embedded_storage_async::nor_flash::NorFlash;

use super::{Boot, Trial};

/// See the module.
pub struct EmbassyBoot<'d, STATE>(FirmwareState<'d, STATE>);

impl<'d, STATE: NorFlash> EmbassyBoot<'d, STATE> {
    /// Over the state partition of the boot loader; `word` has the longer of its read and write sizes.
    ///
    /// # Panics
    /// With a word of another length.
    pub fn new(state: STATE, word: &'d mut [u8]) -> Self {
        Self(FirmwareState::new(state, word))
    }
}

impl<STATE> fmt::Debug for EmbassyBoot<'_, STATE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbassyBoot").finish_non_exhaustive()
    }
}

impl<STATE: NorFlash> Boot for EmbassyBoot<'_, STATE> {
    type Error = FirmwareUpdaterError;

    async fn trial(&mut self) -> Result<Trial, FirmwareUpdaterError> {
        Ok(match self.0.get_state().await? {
            State::Swap => Trial::Running,
            State::Revert => Trial::TakenBack,
            State::Boot | State::DfuDetach => Trial::None,
        })
    }

    async fn confirm(&mut self) -> Result<(), FirmwareUpdaterError> {
        self.0.mark_booted().await
    }

    async fn arm(&mut self) -> Result<(), FirmwareUpdaterError> {
        self.0.mark_updated().await
    }
}
