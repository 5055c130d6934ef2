//! What becomes of a message that no connection can carry.

use embassy_futures::block_on;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embedded_io_adapters::tokio_1::FromTokio;
use tokio::io::DuplexStream;

use super::super::duties::Duties;
use super::super::store::Shelf;
use super::super::wire::Wire;
use super::super::{Link, session};
use super::*;
use crate::flight::Flight;
use crate::queue::{Overflow, RamQueue};
use crate::{App, Config, Device, Memory};

/// How messages ended.
#[derive(Default)]
struct Ends(Vec<Settled>);

impl App for Ends {
    fn settled(&mut self, settled: Settled) {
        self.0.push(settled);
    }
}

/// Discards the record that was looked at, of two, when the full queue has dropped so many since: how records ended, and
/// how many are left.
fn discard(dropped: u32) -> (Vec<Settled>, u32, u32) {
    let mut memory = Memory::<256, 128, 256, 0>::new();
    let config = Config::new(crate::protocol::DeviceName::new("press").unwrap());
    let (device, Link { config, scratch, rx, tx, .. }) = Device::new(config, 1, &mut memory);
    let mut session = session(&config, rx, tx).unwrap();
    let mut ring = [0; 64];
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    for record in [[1; 8], [2; 8]] {
        block_on(queue.push(&record)).unwrap();
    }
    let mut shelf = Shelf::new(&mut queue);
    shelf.dropped = dropped;
    let shelf = Mutex::<NoopRawMutex, _>::new(shelf);
    let mut app = Ends::default();
    let mut network = Network {
        device: &device,
        config: &config,
        shelf: &shelf,
        scratch,
        app: &mut app,
        flight: Flight::new(),
        duties: Duties::new(&config),
        subscription: Subscription::None,
    };
    let connack = Wire::<FromTokio<DuplexStream>>::Played(&[0x20, 3, 0, 0, 0]);
    let connection = block_on(session.connect(connack)).unwrap();
    let is_writing = Cell::new(false);
    let mut online = Online::new(&mut network, connection, &is_writing, Duration::from_secs(1));
    assert!(matches!(block_on(online.discard(Load::Record)), Ok(Sent::One)));
    drop(online);
    let left = shelf.try_lock().unwrap().queue.len();
    (app.0, left, device.figures().refused)
}

#[test]
fn a_record_that_was_dropped_meanwhile_does_not_take_the_next_one_with_it() {
    assert_eq!(discard(1), (vec![], 2, 0));
    let too_large = u8::from(&ReasonCode::PacketTooLarge);
    assert_eq!(discard(0), (vec![Settled::Refused(too_large)], 1, 1));
}
