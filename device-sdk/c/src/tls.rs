//! TLS under a device: the same pipes, with `device_sdk::tls` between them and MQTT.

use core::convert::Infallible;

use device_sdk::protocol::provision::{COPY_BYTES, Credential, Provision, newest};
use device_sdk::protocol::{Quality, Timestamp};
use device_sdk::tls::{self, Random};
use device_sdk::{Device, Dial};

use crate::abi;
use crate::start::Ground;
use crate::watch::Fate;
use crate::wire::{Dialler, Stream, Wire};

/// Buffers of a connection: records of 4 KiB from the gateway, of 2 KiB to it.
pub(crate) type Memory = tls::Memory<{ tls::RECORD_4_KIB }, 2048>;

/// What a device was provisioned with, in flash.
pub(crate) type Provisioned = Provision<'static>;

/// What stands in the image, if it is for TLS.
pub(crate) fn read(image: &'static [u8]) -> Option<Provisioned> {
    let (first, second) = image.split_at_checked(COPY_BYTES)?;
    let provision = newest([first, second]).ok()?.provision;
    (!matches!(provision.credential, Credential::Plain { .. })).then_some(provision)
}

/// The MQTT password.
pub(crate) const fn token(provision: &Provisioned) -> &'static str {
    match provision.credential {
        Credential::Token { token, .. } => token,
        _ => "",
    }
}

/// What a device needs for TLS.
pub(crate) struct Keys {
    pub(crate) memory: &'static mut Memory,
    pub(crate) provision: Provisioned,
    pub(crate) random: Random,
}

pub(crate) async fn run((ground, keys): (Ground, Keys)) -> Infallible {
    let Ground { device, link, wire, mut queue, mut ears, fate } = ground;
    let mut dial = TlsDialler { device, wire, fate, keys };
    let ended = device.run(link, &mut queue, &mut dial, &mut ears).await;
    ended.expect("invariant: without a will there is nothing to refuse in the configuration")
}

struct TlsDialler {
    device: &'static Device<'static>,
    wire: &'static Wire,
    fate: &'static Fate,
    keys: Keys,
}

impl Dial for TlsDialler {
    type Transport<'t> = tls::Stream<'t, Stream>;
    type Error = ();

    async fn dial(&mut self) -> Result<tls::Stream<'_, Stream>, ()> {
        let stream = Dialler(self.wire).dial().await.map_err(|_| ())?;
        let Timestamp { quality, ms } = self.device.now();
        let now_unix_s = (quality == Quality::Synced).then_some(ms / 1000);
        let Keys { memory, provision, random } = &mut self.keys;
        tls::connect(stream, &mut **memory, provision, now_unix_s, random).await.map_err(|error| {
            self.fate.tls_failed(match error {
                tls::Error::Refused(_) => abi::TLS_REFUSED,
                _ => abi::TLS_FAILED,
            });
        })
    }
}
