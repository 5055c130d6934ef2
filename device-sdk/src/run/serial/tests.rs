//! What becomes of a message that the line cannot carry.

use device_protocol::serial::{DeviceConfig, Timing};
use embassy_futures::block_on;

use super::*;
use crate::queue::{Overflow, RamQueue};
use crate::{Config, Memory};

/// How messages ended.
#[derive(Default)]
struct Ends(std::vec::Vec<Settled>);

impl App for Ends {
    fn settled(&mut self, settled: Settled) {
        self.0.push(settled);
    }
}

/// Discards the record that was looked at, of two, when the full queue has dropped so many since: how records ended, and
/// how many are left.
fn discard(dropped: u32) -> (std::vec::Vec<Settled>, u32, u32) {
    let mut memory = Memory::<256, 128, 256, 0>::new();
    let config = Config::new(crate::protocol::DeviceName::new("press").unwrap());
    let (device, Link { config, scratch, .. }) = Device::new(config, 1, &mut memory);
    let mut ring = [0; 64];
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    for record in [[1; 8], [2; 8]] {
        block_on(queue.push(&record)).unwrap();
    }
    let mut shelf = Shelf::new(&mut queue);
    shelf.dropped = dropped;
    let shelf = Mutex::<NoopRawMutex, _>::new(shelf);
    let mut app = Ends::default();
    let mut line = Line::<256, 256>::new(DeviceConfig {
        address: None,
        name: "press",
        credential: b"",
        timing: Timing::for_baud(115_200),
        seed: 1,
    });
    let mut end = End::new(&device, &config, &shelf, scratch, &mut app, &mut line);
    block_on(end.discard(Found::Record(8)));
    let left = shelf.try_lock().unwrap().queue.len();
    (app.0, left, device.figures().refused)
}

#[test]
fn a_record_that_was_dropped_meanwhile_does_not_take_the_next_one_with_it() {
    assert_eq!(discard(1), (vec![], 2, 0));
    assert_eq!(discard(0), (vec![Settled::Refused(TOO_LARGE)], 1, 1));
}
