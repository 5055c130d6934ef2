//! Both ends of a serial line: what a foreign sender, a bad cable and a slow user make of them.

use device_protocol::serial::{
    Deframer, Device, DeviceConfig, FromDevice, FromGateway, Heard, Station, StationConfig, Timing,
    WINDOW, WIRE_MAX,
};

use crate::bytes_reader::BytesReader;

const STEPS_MAX: usize = 400;
/// Frames that an end may have to say at once: a window, and a frame of the handshake or an ack.
const FRAMES_MAX: usize = WINDOW as usize + 2;
/// Bytes of the link's buffers.
const BUFFER: usize = 700;

/// An end says at most a window at once, whatever it has heard. Without forged frames the other end is given what was sent
/// in this life of the link: in order, each once.
pub(super) fn run(bytes: &[u8]) {
    let mut choices = BytesReader::new(bytes);
    let mut line = Line::new(choices.byte() & 1 == 1);
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        line.step(&mut choices);
    }
}

struct Line {
    device: Device<'static, BUFFER, BUFFER>,
    station: Station<BUFFER, BUFFER>,
    deframer: Deframer,
    shared: bool,
    now_ms: u64,
    /// Bytes came that neither end has said: nothing is sure but that nobody panics.
    forged: bool,
    /// The last frame of each end, to be heard twice.
    said: [Vec<u8>; 2],
    /// The next number that each end sends, and the one that it waits for.
    sent: [u32; 2],
    due: [u32; 2],
}

impl Line {
    fn new(shared: bool) -> Self {
        let address = shared.then_some(7);
        let timing = Timing::for_baud(115_200);
        let config = DeviceConfig { address, name: "d", credential: b"secret", timing, seed: 1 };
        Self {
            device: Device::new(config),
            station: Station::new(StationConfig { address, timing, seed: 2 }),
            deframer: Deframer::new(),
            shared,
            now_ms: 0,
            forged: false,
            said: [Vec::new(), Vec::new()],
            sent: [0; 2],
            due: [0; 2],
        }
    }

    fn step(&mut self, choices: &mut BytesReader<'_>) {
        match choices.byte() % 9 {
            0 => {
                let length = usize::from(choices.byte());
                self.forge(choices.take(length), choices.byte() & 1 == 1);
            }
            1 | 2 => self.device_speaks(choices),
            3 | 4 => self.station_speaks(choices),
            5 => {
                self.now_ms += u64::from(choices.u16());
                self.station.close_if_lost(self.now_ms);
            }
            6 => self.send(usize::from(choices.u16() % 600)),
            7 => self.take(),
            _ => {
                let again = self.said.clone();
                self.device_hears(&again[1]);
                self.station_hears(&again[0]);
            }
        }
    }

    fn forge(&mut self, bytes: &[u8], to_device: bool) {
        self.forged |= !bytes.is_empty();
        if to_device { self.device_hears(bytes) } else { self.station_hears(bytes) }
    }

    fn device_speaks(&mut self, choices: &mut BytesReader<'_>) {
        let mut frame = [0; WIRE_MAX];
        for n in 0.. {
            let length = self.device.transmit(self.now_ms, &mut frame);
            if length == 0 {
                break;
            }
            assert!(n < FRAMES_MAX, "a device that does not stop talking");
            self.said[0] = frame[..length].to_vec();
            let heard = hurt(&frame[..length], choices);
            self.station_hears(&heard);
        }
    }

    fn station_speaks(&mut self, choices: &mut BytesReader<'_>) {
        if self.shared {
            self.station.begin_turn(self.now_ms);
        } else {
            self.station.discover();
        }
        let mut frame = [0; WIRE_MAX];
        for n in 0.. {
            let length = self.station.transmit(self.now_ms, &mut frame);
            if length == 0 {
                break;
            }
            assert!(n < FRAMES_MAX, "a station that does not stop talking");
            self.said[1] = frame[..length].to_vec();
            let heard = hurt(&frame[..length], choices);
            self.device_hears(&heard);
        }
    }

    fn device_hears(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        while !left.is_empty() {
            let lives = self.device.counters().lives;
            let took = self.device.receive(left, self.now_ms);
            if self.device.counters().lives != lives {
                (self.sent[0], self.due[1]) = (0, 0);
            }
            left = &left[took..];
            if took == 0 && !self.take_at_device() {
                break;
            }
        }
    }

    fn station_hears(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let Some(Ok((header, payload))) = self.deframer.push(*byte) else { continue };
            let heard = self.station.frame(&header, payload, self.now_ms);
            if let Heard::Hello(hello) = heard {
                if hello.credential == b"secret" {
                    let message_max = usize::try_from(hello.message_max).unwrap_or(usize::MAX);
                    self.station.accept(message_max.max(1), self.now_ms);
                    (self.sent[1], self.due[0]) = (0, 0);
                } else {
                    self.station.refuse(device_protocol::serial::Refusal::Credential);
                }
            }
        }
    }

    fn send(&mut self, length: usize) {
        let body = vec![0xA5; length];
        let id = self.sent[0];
        if self.device.send(&FromDevice::System { id, up: &body }).is_ok() {
            self.sent[0] += 1;
        }
        let id = self.sent[1];
        if self.station.send(&FromGateway::Durable { id }).is_ok() {
            self.sent[1] += 1;
        }
    }

    fn take(&mut self) {
        self.take_at_device();
        let Some(message) = self.station.message() else { return };
        if !self.forged {
            let Ok(FromDevice::System { id, up }) = message else { panic!("{message:?}") };
            assert!(up.iter().all(|byte| *byte == 0xA5), "a message that was not sent");
            assert_eq!(id, self.due[0], "out of order, lost or twice");
            self.due[0] += 1;
        }
        self.station.take();
    }

    fn take_at_device(&mut self) -> bool {
        let Some(message) = self.device.message() else { return false };
        if !self.forged {
            let Ok(FromGateway::Durable { id }) = message else { panic!("{message:?}") };
            assert_eq!(id, self.due[1], "out of order, lost or twice");
            self.due[1] += 1;
        }
        self.device.take();
        true
    }
}

/// What arrives of a frame: all, nothing, a part, or a byte that is another one.
fn hurt(frame: &[u8], choices: &mut BytesReader<'_>) -> Vec<u8> {
    let mut heard = frame.to_vec();
    match choices.byte() {
        0 => heard.clear(),
        1 => heard.truncate(usize::from(choices.byte()) % heard.len()),
        2 => {
            let at = usize::from(choices.u16()) % heard.len();
            heard[at] ^= choices.byte();
        }
        3 => heard.extend(frame),
        _ => {}
    }
    heard
}
