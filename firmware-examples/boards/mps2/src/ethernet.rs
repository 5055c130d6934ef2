//! Ethernet for embassy-net: the SMSC LAN9118 as QEMU models it, by programmed I/O.
//!
//! Register names and bits: LAN9118 data sheet, chapter 5. A frame that does not fit or came broken
//! is dropped and counted.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;

use crate::interrupts::{Interrupt, unmask};
use crate::mmio::{self, DUAL_TIMER, Registers};

/// Bytes of a frame with its header, without its checksum.
pub const FRAME_BYTES_MAX: usize = 1514;
const FRAME_BYTES_MIN: usize = 14;
/// The checksum, which the controller leaves behind a received frame.
const CHECKSUM_BYTES: usize = 4;
/// A buffer holds whole words.
const BUFFER_BYTES: usize = FRAME_BYTES_MAX.next_multiple_of(4);

const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const TX_STATUS: usize = 0x48;
const IRQ_CFG: usize = 0x54;
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5C;
const BYTE_TEST: usize = 0x64;
const FIFO_INT: usize = 0x68;
const RX_CFG: usize = 0x6C;
const TX_CFG: usize = 0x70;
const HW_CFG: usize = 0x74;
const RX_FIFO_INF: usize = 0x7C;
const TX_FIFO_INF: usize = 0x80;
const MAC_CSR_CMD: usize = 0xA4;
const MAC_CSR_DATA: usize = 0xA8;

const BYTE_TEST_VALUE: u32 = 0x8765_4321;
const HW_CFG_RESET: u32 = 1;
/// 5 KiB of the controller's memory for sending; the other bit must be one.
const HW_CFG_TX_5_KIB: u32 = 5 << 16 | 1 << 20;
/// Enabled, active high, push-pull. As it comes out of reset the line is active low: QEMU then
/// interrupts without end.
const IRQ_CFG_ACTIVE_HIGH: u32 = 1 << 8 | 1 << 4 | 1;
const INT_RX_STATUS: u32 = 1 << 3;
const INT_PHY: u32 = 1 << 18;
const TX_CFG_ON: u32 = 1 << 1;
const RX_STATUS_ERROR: u32 = 1 << 15;
const TX_FIRST_AND_LAST: u32 = 1 << 13 | 1 << 12;

const MAC_CR: u32 = 1;
const MAC_ADDRESS_HIGH: u32 = 2;
const MAC_ADDRESS_LOW: u32 = 3;
const MAC_MII_ACCESS: u32 = 6;
const MAC_MII_DATA: u32 = 7;
const MAC_CR_FULL_DUPLEX_TX_RX: u32 = 1 << 20 | 1 << 3 | 1 << 2;
const MAC_BUSY: u32 = 1 << 31;
const MAC_READ: u32 = 1 << 30;

/// The transceiver: its address on the bus and the registers of IEEE 802.3 clause 22 and its own.
const PHY_ADDRESS: u32 = 1;
const PHY_STATUS: u32 = 1;
const PHY_STATUS_LINK: u32 = 1 << 2;
const PHY_INTERRUPT_SOURCE: u32 = 29;
const PHY_INTERRUPT_MASK: u32 = 30;
/// Link up (energy on, negotiation done) and link down.
const PHY_INTERRUPT_LINK: u32 = 1 << 7 | 1 << 6 | 1 << 4;

/// Looks at a busy bit before the controller counts as broken.
const LOOKS_MAX: u32 = 100_000;

static WAKER: AtomicWaker = AtomicWaker::new();
static LINK_IS_UP: AtomicBool = AtomicBool::new(false);
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// The Ethernet port, not started yet.
pub struct Port(pub(crate) ());

/// The running Ethernet port.
pub struct Ethernet {
    registers: Registers,
    address: [u8; 6],
    frame: [u8; BUFFER_BYTES],
}

/// The controller does not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EthernetError {
    /// Not a LAN9118: what it answers to the byte order test.
    NotThere(u32),
    /// It does not come out of its reset, or its MAC stays busy.
    Stuck,
}

impl Port {
    /// Resets and starts the controller. Its address is that of QEMU's `-nic mac=`.
    ///
    /// # Errors
    /// It is not there or does not answer.
    pub fn start(self) -> Result<Ethernet, EthernetError> {
        let registers = mmio::ethernet();
        let answer = registers.read(BYTE_TEST);
        if answer != BYTE_TEST_VALUE {
            return Err(EthernetError::NotThere(answer));
        }
        registers.write(HW_CFG, HW_CFG_RESET);
        until_clear(registers, HW_CFG, HW_CFG_RESET)?;
        registers.write(HW_CFG, HW_CFG_TX_5_KIB);
        registers.write(INT_EN, 0);
        registers.write(INT_STS, u32::MAX);
        registers.write(IRQ_CFG, IRQ_CFG_ACTIVE_HIGH);
        registers.write(FIFO_INT, 0);
        registers.write(RX_CFG, 0);
        let low = mac_read(registers, MAC_ADDRESS_LOW)?.to_le_bytes();
        let high = mac_read(registers, MAC_ADDRESS_HIGH)?.to_le_bytes();
        phy_write(registers, PHY_INTERRUPT_MASK, PHY_INTERRUPT_LINK)?;
        mac_write(registers, MAC_CR, MAC_CR_FULL_DUPLEX_TX_RX)?;
        registers.write(TX_CFG, TX_CFG_ON);
        look_at_link(registers)?;
        registers.write(INT_EN, INT_RX_STATUS | INT_PHY);
        unmask(Interrupt::Ethernet);
        let address = [low[0], low[1], low[2], low[3], high[0], high[1]];
        Ok(Ethernet { registers, address, frame: [0; BUFFER_BYTES] })
    }
}

impl Ethernet {
    /// Its hardware address: an identity that each simulated device has for free.
    #[must_use]
    pub fn address(&self) -> [u8; 6] {
        self.address
    }

    /// Takes the next whole frame; returns its length.
    fn take_frame(&mut self) -> Option<usize> {
        while received(self.registers) > 0 {
            let status = self.registers.read(RX_STATUS);
            let bytes = (status >> 16 & 0x3FFF) as usize;
            for index in 0..bytes.div_ceil(4) {
                let word = self.registers.read(RX_DATA).to_le_bytes();
                if let Some(slot) = self.frame.get_mut(index * 4..index * 4 + 4) {
                    slot.copy_from_slice(&word);
                }
            }
            let frame_bytes = bytes.saturating_sub(CHECKSUM_BYTES);
            let fits = (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&frame_bytes);
            if fits && status & RX_STATUS_ERROR == 0 {
                return Some(frame_bytes);
            }
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        None
    }
}

/// Frames dropped since the start, because they were broken or too long.
#[must_use]
pub fn frames_dropped() -> u32 {
    DROPPED.load(Ordering::Relaxed)
}

pub(crate) extern "C" fn on_interrupt() {
    let registers = mmio::ethernet();
    let causes = registers.read(INT_STS);
    if causes & INT_PHY != 0 {
        // A transceiver that stays busy now is asked again at its next change.
        let _ = look_at_link(registers);
    }
    registers.write(INT_STS, causes);
    WAKER.wake();
}

/// Notes whether the link is up, and lets the transceiver's interrupt go.
fn look_at_link(registers: Registers) -> Result<(), EthernetError> {
    phy_read(registers, PHY_INTERRUPT_SOURCE)?;
    let status = phy_read(registers, PHY_STATUS)?;
    LINK_IS_UP.store(status & PHY_STATUS_LINK != 0, Ordering::Relaxed);
    Ok(())
}

fn received(registers: Registers) -> u32 {
    registers.read(RX_FIFO_INF) >> 16 & 0xFF
}

fn until_clear(registers: Registers, offset: usize, bit: u32) -> Result<(), EthernetError> {
    let clear = (0..LOOKS_MAX).any(|_| registers.read(offset) & bit == 0);
    if clear { Ok(()) } else { Err(EthernetError::Stuck) }
}

fn mac_read(registers: Registers, index: u32) -> Result<u32, EthernetError> {
    registers.write(MAC_CSR_CMD, MAC_BUSY | MAC_READ | index);
    until_clear(registers, MAC_CSR_CMD, MAC_BUSY)?;
    Ok(registers.read(MAC_CSR_DATA))
}

fn mac_write(registers: Registers, index: u32, value: u32) -> Result<(), EthernetError> {
    registers.write(MAC_CSR_DATA, value);
    registers.write(MAC_CSR_CMD, MAC_BUSY | index);
    until_clear(registers, MAC_CSR_CMD, MAC_BUSY)
}

fn phy_read(registers: Registers, register: u32) -> Result<u32, EthernetError> {
    mac_write(registers, MAC_MII_ACCESS, PHY_ADDRESS << 11 | register << 6 | 1)?;
    mac_read(registers, MAC_MII_DATA)
}

fn phy_write(registers: Registers, register: u32, value: u32) -> Result<(), EthernetError> {
    mac_write(registers, MAC_MII_DATA, value)?;
    mac_write(registers, MAC_MII_ACCESS, PHY_ADDRESS << 11 | register << 6 | 0b11)
}

/// A received frame.
pub struct Received<'a>(&'a mut [u8]);

/// Room for a frame to send.
pub struct Room(Registers);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Room {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, fill: F) -> R {
        let mut frame = [0; BUFFER_BYTES];
        let result = fill(&mut frame[..bytes]);
        let length = u32::try_from(bytes).expect("invariant: a frame is short");
        self.0.write(TX_DATA, TX_FIRST_AND_LAST | length);
        self.0.write(TX_DATA, length);
        let (words, _) = frame[..bytes.next_multiple_of(4)].as_chunks();
        for word in words {
            self.0.write(TX_DATA, u32::from_le_bytes(*word));
        }
        while self.0.read(TX_FIFO_INF) >> 16 & 0xFF != 0 {
            self.0.read(TX_STATUS);
        }
        wake_qemu();
        result
    }
}

/// QEMU's user network notices a new connection of a sleeping guest only when its main loop turns,
/// up to a second later. A timer that runs off, of which nobody wants to know, makes it turn.
fn wake_qemu() {
    const LOAD: usize = 0x0;
    const CONTROL: usize = 0x8;
    const IN_100_US: u32 = 100 * mmio::CLOCK_MHZ;
    /// Enabled, 32 bits, once, without an interrupt.
    const ONCE: u32 = 1 << 7 | 1 << 1 | 1;
    DUAL_TIMER.write(CONTROL, 0);
    DUAL_TIMER.write(LOAD, IN_100_US);
    DUAL_TIMER.write(CONTROL, ONCE);
}

impl Driver for Ethernet {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Room;

    fn receive(&mut self, context: &mut Context) -> Option<(Received<'_>, Room)> {
        // Registered before the look, so that a frame in between wakes.
        WAKER.register(context.waker());
        let room = self.transmit(context)?;
        let bytes = self.take_frame()?;
        Some((Received(&mut self.frame[..bytes]), room))
    }

    fn transmit(&mut self, context: &mut Context) -> Option<Room> {
        WAKER.register(context.waker());
        let free_bytes = self.registers.read(TX_FIFO_INF) & 0xFFFF;
        if free_bytes as usize >= BUFFER_BYTES + 8 {
            return Some(Room(self.registers));
        }
        // QEMU sends at once and never is here; a real controller has room within microseconds.
        context.waker().wake_by_ref();
        None
    }

    fn link_state(&mut self, context: &mut Context) -> LinkState {
        WAKER.register(context.waker());
        if LINK_IS_UP.load(Ordering::Relaxed) { LinkState::Up } else { LinkState::Down }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_BYTES_MAX;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}
