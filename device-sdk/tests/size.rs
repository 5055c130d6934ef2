//! A device is small enough for a microcontroller, and for a thousand of them in a process.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test says no"
)]

use device_sdk::host::TcpDial;
use device_sdk::protocol::DeviceName;
use device_sdk::{Config, Device, Memory, Overflow, RamQueue};

#[test]
fn a_device_takes_a_few_kilobytes_on_a_64_bit_computer() {
    let (mut memory, mut ring) = (Memory::<256, 512, 1024, 256>::new(), [0; 2048]);
    let handed_in = size_of_val(&memory);
    let (device, link) =
        Device::new(Config::new(DeviceName::new("press-7").unwrap()), 1, &mut memory);
    let mut queue = RamQueue::new(&mut ring, Overflow::DropOldest);
    let mut dial = TcpDial::new("127.0.0.1:1");
    let mut app = ();
    let task = size_of_val(&device.run(link, &mut queue, &mut dial, &mut app));
    let device = size_of_val(&device);
    println!("memory {handed_in}, device {device}, task {task} bytes");
    assert!(handed_in == 6 * 256 + 512 + 1024 + 256);
    // 1,024 were measured, with an offer of firmware and one of a function.
    assert!(device < 1_100, "{device}");
    assert!(task < 7_000, "{task}");
}
