//! The LED: a short flash every two seconds while the gateway is there, half and half while it is not.

use device_sdk::{Device, State};
use embassy_time::Timer;

/// A beat of the LED, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Lit.
    pub on_ms: u64,
    /// Dark after that.
    pub off_ms: u64,
}

impl Beat {
    /// That of a device in this state.
    #[must_use]
    pub const fn of(state: State) -> Self {
        match state {
            State::Online { .. } => Self { on_ms: 50, off_ms: 1_950 },
            State::Connecting | State::Offline { .. } => Self { on_ms: 500, off_ms: 500 },
        }
    }
}

/// Beats for ever; `light` switches the LED.
pub async fn run(device: &Device<'static>, mut light: impl FnMut(bool)) -> ! {
    loop {
        let beat = Beat::of(device.state());
        light(true);
        Timer::after_millis(beat.on_ms).await;
        light(false);
        Timer::after_millis(beat.off_ms).await;
    }
}
