//! Firmware and a function are offered to one device: it fetches one after the other, and both come to run.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test says no"
)]

#[allow(dead_code, reason = "other tests cut the power")]
#[path = "support/nor.rs"]
mod nor;
#[allow(dead_code, reason = "other tests play other parts")]
#[path = "support/played.rs"]
mod played;

use std::cell::RefCell;
use std::time::Duration;

use device_sdk::host::TcpDial;
use device_sdk::protocol::update::{Chunk, Offer, Stage};
use device_sdk::protocol::{DeviceName, Down, Up};
use device_sdk::update::{Boot, Ended, Layout, Running, Slot, Trial, UpdateConfig};
use device_sdk::{Config, Device, Memory, Overflow, RamQueue};
use ed25519_dalek::{Signer as _, SigningKey};
use nor::{Nor, PAGE};
use played::Packet;
use sha2::{Digest as _, Sha256};

/// Pages for an image; another two are for the notes.
const PAGES: usize = 8;
/// Version of what is offered; the one before runs.
const VERSION: u32 = 2;

/// An image, and where the device keeps it.
struct Place {
    board: &'static str,
    bytes: Vec<u8>,
    signature: [u8; 64],
    chip: Nor,
    loader: Loader,
}

/// What its boot loader knows, over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loader {
    Settled,
    Armed,
    OnTrial,
    Confirmed,
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

impl Place {
    fn new(board: &'static str, fill: u8) -> Self {
        let bytes = vec![fill; 5 * PAGE + 77];
        let mut place = Self {
            board,
            bytes,
            signature: [0; 64],
            chip: Nor::new(PAGES + 2, 0, 1),
            loader: Loader::Settled,
        };
        let signed = place.offer().signed().unwrap();
        place.signature = key().sign(&signed).to_bytes();
        place
    }

    fn offer(&self) -> Offer<'_> {
        Offer {
            digest: Sha256::digest(&self.bytes).into(),
            length: self.bytes.len() as u32,
            board: self.board,
            version: VERSION,
            floor: 0,
            signature: &self.signature,
        }
    }

    fn image(&self) -> [u8; 8] {
        self.offer().digest[..8].try_into().unwrap()
    }

    async fn slot(&self) -> Slot<Nor> {
        let end = (PAGES * PAGE) as u32;
        let layout = Layout { image: 0..end, notes: end..end + 2 * PAGE as u32 };
        Slot::open(self.chip.clone(), layout).await.unwrap()
    }

    fn version(&self) -> u32 {
        if matches!(self.loader, Loader::OnTrial | Loader::Confirmed) { VERSION } else { 1 }
    }
}

impl Boot for Loader {
    type Error = ();

    async fn trial(&mut self) -> Result<Trial, ()> {
        Ok(if *self == Self::OnTrial { Trial::Running } else { Trial::None })
    }

    async fn confirm(&mut self) -> Result<(), ()> {
        if *self == Self::OnTrial {
            *self = Self::Confirmed;
        }
        Ok(())
    }

    async fn arm(&mut self) -> Result<(), ()> {
        *self = Self::Armed;
        Ok(())
    }
}

/// What the gateway heard, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Want([u8; 8]),
    Told([u8; 8], Stage),
}

/// Offers both and answers questions, but those for the `silent` image.
fn answer(
    places: &[(&Offer<'_>, &[u8]); 2],
    silent: Option<[u8; 8]>,
    packet: &Packet,
    heard: &RefCell<Vec<Heard>>,
) -> Vec<Vec<u8>> {
    let [(firmware, _), (function, _)] = *places;
    match packet {
        Packet::Subscribe(_) => [Down::Offer(*firmware), Down::Function(*function)]
            .iter()
            .map(|down| played::publish("press-7", down))
            .collect(),
        Packet::Publish(publish) => match Up::decode(&publish.payload).unwrap() {
            Up::Progress(progress) => {
                heard.borrow_mut().push(Heard::Told(progress.image, progress.stage));
                vec![]
            }
            Up::Want(want) => {
                heard.borrow_mut().push(Heard::Want(want.image));
                if silent == Some(want.image) {
                    return vec![];
                }
                let is_it = |(offer, _): &&(&Offer<'_>, &[u8])| offer.digest[..8] == want.image;
                let (_, bytes) = places.iter().find(is_it).unwrap();
                let from = want.offset as usize;
                let bytes = &bytes[from..from + usize::from(want.length)];
                let chunk = Chunk { image: want.image, offset: want.offset, bytes };
                vec![played::publish("press-7", &Down::Chunk(chunk))]
            }
            _ => vec![],
        },
        _ => vec![],
    }
}

/// A start of the device; ends when it is to be restarted, or when both images are confirmed.
async fn start(
    firmware: &mut Place,
    function: &mut Place,
    silent: Option<[u8; 8]>,
    heard: &RefCell<Vec<Heard>>,
) -> Option<Ended> {
    let (listener, port) = played::listen().await;
    let config = Config::new(DeviceName::new("press-7").unwrap());
    let (mut memory, mut ring) = (Memory::<512, 1024, 1024, 512>::new(), [0; 2048]);
    let (device, link) = Device::new(config, 9, &mut memory);
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    let (mut dial, mut app) = (TcpDial::new(format!("127.0.0.1:{port}")), ());
    let author = key().verifying_key().to_bytes();
    let (mut slot, mut other_slot) = (firmware.slot().await, function.slot().await);
    let (mut loader, mut other_loader) = (firmware.loader, function.loader);
    let running = |place: &Place| Running {
        board: place.board,
        version: place.version(),
        floor: 0,
        author: &author,
        digest: None,
    };
    let (of_firmware, of_function) = (running(firmware), running(function));
    let offers = [firmware.offer(), function.offer()];
    let places = [(&offers[0], &firmware.bytes[..]), (&offers[1], &function.bytes[..])];
    let gateway = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let hear = |packet: &_| answer(&places, silent, packet, heard);
            let _ = played::serve(stream, hear).await;
        }
    };
    let both_run = async {
        let is_confirmed = |offer: &Offer<'_>| {
            let told = Heard::Told(offer.digest[..8].try_into().unwrap(), Stage::Confirmed);
            heard.borrow().contains(&told)
        };
        while !offers.iter().all(is_confirmed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let config = UpdateConfig::default();
    let ended = tokio::select! {
        biased;
        ended = device.run(link, &mut queue, &mut dial, &mut app) => panic!("{ended:?}"),
        () = gateway => unreachable!("it listens for ever"),
        ended = device.update(config, &of_firmware, &mut slot, &mut loader) => Some(ended),
        ended = device.update_function(config, &of_function, &mut other_slot, &mut other_loader) => Some(ended),
        () = both_run => None,
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("{:?}", heard.borrow()),
    };
    // The boot loader's part of a restart.
    let restarted = |loader| if loader == Loader::Armed { Loader::OnTrial } else { loader };
    (firmware.loader, function.loader) = (restarted(loader), restarted(other_loader));
    ended
}

fn places() -> (Place, Place) {
    (Place::new("board", 1), Place::new("platform", 2))
}

#[tokio::test]
async fn one_is_fetched_after_the_other_and_both_come_to_run() {
    let (mut firmware, mut function) = places();
    let heard = RefCell::new(Vec::new());
    let mut restarts = 0;
    while let Some(ended) = start(&mut firmware, &mut function, None, &heard).await {
        assert_eq!(ended, Ended::Restart);
        restarts += 1;
        assert!(restarts < 5, "{:?}", heard.borrow());
    }
    assert_eq!(restarts, 2);
    assert_eq!((firmware.loader, function.loader), (Loader::Confirmed, Loader::Confirmed));
    // No question for one image between those for the other.
    let mut images: Vec<_> = heard
        .borrow()
        .iter()
        .filter_map(|heard| match heard {
            Heard::Want(image) => Some(*image),
            Heard::Told(..) => None,
        })
        .collect();
    assert_eq!(images.len(), 12, "no byte was asked for twice: {:?}", heard.borrow());
    images.dedup();
    assert_eq!(images.len(), 2, "{:?}", heard.borrow());
}

#[tokio::test]
async fn an_image_that_the_gateway_does_not_give_does_not_hold_up_the_other_one() {
    let (mut firmware, mut function) = places();
    let heard = RefCell::new(Vec::new());
    let silent = Some(firmware.image());
    let ended = start(&mut firmware, &mut function, silent, &heard).await;
    assert_eq!((ended, function.loader), (Some(Ended::Restart), Loader::OnTrial));
    // Firmware that was taken up first is taken up again when the gateway has its bytes.
    let ended = start(&mut firmware, &mut function, None, &heard).await;
    assert_eq!((ended, firmware.loader), (Some(Ended::Restart), Loader::OnTrial));
    assert_eq!(function.loader, Loader::Confirmed);
}
