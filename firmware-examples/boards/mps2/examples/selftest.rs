//! Each part of the board, on the machine itself:
//!
//! ```sh
//! cargo run --release --features sim,uart --example selftest -- flash
//! ```
//!
//! Checks: `clock`, `flash`, `i2c`, `stack`, `watchdog` and `execute` exit with 0; `panic` with 101
//! and `fault` with 102. `keep` counts its starts in flash and waits to be killed; `echo` sends back
//! what comes in by UART 1, and `flood` lets it run over, both until a byte comes by the console.

#![no_std]
#![no_main]

use board_mps2::flash::{FlashError, Found, PAGE_BYTES};
use board_mps2::uart::RECEIVE_BYTES_MAX;
use board_mps2::{Board, log, sim, stack};
use embassy_time::{Duration, Instant, Timer};
use embedded_hal::i2c::{I2c, NoAcknowledgeSource};
use embedded_io_async::{Read, Write};
use embedded_storage_async::nor_flash::{NorFlash, ReadNorFlash};

/// Exit code for a name that is none of a check.
const EXIT_USAGE: u32 = 2;
const MARK: [u8; 8] = *b"selftest";

#[cortex_m_rt::entry]
fn main() -> ! {
    board_mps2::run(|spawner, board| {
        spawner.spawn(app(board).expect("invariant: spawned once"));
    })
}

#[embassy_executor::task]
async fn app(board: Board) {
    let mut buffer = [0; 128];
    let line = sim::arguments(&mut buffer).expect("a short command line");
    let name = line.split_whitespace().nth(1).unwrap_or("none");
    match name {
        "clock" => clock().await,
        "echo" => echo(board).await,
        "execute" => execute(board).await,
        "fault" => cortex_m::asm::udf(),
        "flash" => flash(board).await,
        "flood" => flood(board).await,
        "i2c" => i2c(board),
        "keep" => keep(board).await,
        "panic" => panic!("as asked"),
        "stack" => deep(),
        "watchdog" => watchdog(board).await,
        _ => {
            log!("no check `{name}`");
            sim::exit(EXIT_USAGE)
        }
    }
    log!("{name}: well");
    sim::exit(0)
}

async fn clock() {
    for ms in [1, 20, 300] {
        let start = Instant::now();
        Timer::after_millis(ms).await;
        let took = start.elapsed();
        log!("asked for {ms} ms, took {} us", took.as_micros());
        assert!(took >= Duration::from_millis(ms), "rang too early");
    }
    let (start, now_s) = (Instant::now(), sim::unix_time_s());
    Timer::after_secs(2).await;
    let seconds = sim::unix_time_s() - now_s;
    log!("{} ms here, {seconds} s on the host", start.elapsed().as_millis());
    assert!((1..=4).contains(&seconds), "the clock of the host goes otherwise");
}

async fn flash(board: Board) {
    let (mut flash, found) = board.regions.queue.prepare(MARK).await.expect("a region has pages");
    assert_eq!(found, Found::Formatted, "blank memory is not this owner's");
    let end = u32::try_from(flash.capacity()).expect("a region is small");
    let mut word = [0; 4];

    assert_eq!(flash.write(end, &[0; 4]).await, Err(FlashError::OutOfBounds));
    assert_eq!(flash.write(u32::MAX - 3, &[0; 4]).await, Err(FlashError::OutOfBounds));
    assert_eq!(flash.read(end - 3, &mut word).await, Err(FlashError::OutOfBounds));
    assert_eq!(flash.erase(4096, 0).await, Err(FlashError::OutOfBounds));
    assert_eq!(flash.erase(0, end + 4096).await, Err(FlashError::OutOfBounds));
    assert_eq!(flash.write(2, &[0; 4]).await, Err(FlashError::NotAligned));
    assert_eq!(flash.write(0, &[0; 3]).await, Err(FlashError::NotAligned));
    assert_eq!(flash.erase(0, 100).await, Err(FlashError::NotAligned));

    flash.write(end - 4, &[0xF0; 4]).await.expect("the last word");
    flash.write(end - 4, &[0x3C; 4]).await.expect("the last word again");
    flash.read(end - 4, &mut word).await.expect("the last word");
    assert_eq!(word, [0x30; 4], "a write sets no bits");
    let page = end - u32::try_from(PAGE_BYTES).expect("a page is small");
    flash.erase(page, end).await.expect("the last page");
    flash.read(end - 4, &mut word).await.expect("the last word");
    assert_eq!(word, [0xFF; 4]);
}

fn i2c(mut board: Board) {
    const SENSOR: u8 = 0x48;
    board.i2c.write(SENSOR, &[1, 0x60]).expect("a TMP105 is there");
    let mut configuration = [0];
    board.i2c.write_read(SENSOR, &[1], &mut configuration).expect("it answers");
    assert_eq!(configuration[0] & 0x60, 0x60, "what was written is read");
    let nobody = board.i2c.write(0x11, &[0]).expect_err("nobody is at 0x11");
    assert_eq!(nobody.0, NoAcknowledgeSource::Address);
    board.i2c.write_read(SENSOR, &[1], &mut configuration).expect("the bus is free again");
}

/// Counts starts in the first word that is not counted yet.
async fn keep(board: Board) {
    let (mut flash, found) = board.regions.queue.prepare(MARK).await.expect("a region has pages");
    let mut starts = 0;
    let mut word = [0; 4];
    for offset in (0..4096).step_by(4) {
        flash.read(offset, &mut word).await.expect("inside");
        starts += 1;
        if word == [0xFF; 4] {
            flash.write(offset, &[0; 4]).await.expect("inside");
            break;
        }
    }
    log!("{found:?}, start {starts}");
    core::future::pending().await
}

async fn echo(mut board: Board) {
    let (mut reader, mut writer) = board.uart1.split();
    let mut console = [0; 1];
    let mut bytes = [0; 64];
    let mut total = 0;
    log!("echo");
    loop {
        let read = embassy_futures::select::select(
            reader.read(&mut bytes),
            board.uart0.read(&mut console),
        );
        let embassy_futures::select::Either::First(Ok(count)) = read.await else { break };
        total += count;
        let _ = writer.write_all(&bytes[..count]).await;
    }
    let _ = writer.flush().await;
    log!("{total} bytes, {} overruns", reader.overruns());
}

async fn flood(mut board: Board) {
    let (mut reader, _writer) = board.uart1.split();
    let mut bytes = [0; 2 * RECEIVE_BYTES_MAX];
    log!("flood");
    let _ = board.uart0.read(&mut bytes[..1]).await;
    let kept = reader.read(&mut bytes).await.unwrap_or_default();
    log!("{kept} bytes kept, {} overruns", reader.overruns());
}

fn deep() {
    #[inline(never)]
    fn fill(depth: u32) -> u32 {
        let frame = [depth; 256];
        core::hint::black_box(&frame);
        if depth == 0 { frame[3] } else { fill(depth - 1) + frame[7] }
    }
    let before = stack::high_water_bytes();
    core::hint::black_box(fill(core::hint::black_box(20)));
    let after = stack::high_water_bytes();
    log!("{before} bytes, after 21 frames of 1,024 bytes {after}");
    assert!((21_504..32_768).contains(&after), "not what was used");
}

/// Hangs once; the second start sees in flash that there was a first.
async fn watchdog(board: Board) {
    let (_, found) = board.regions.update_state.prepare(MARK).await.expect("a region has pages");
    if found == Found::Kept {
        log!("back");
        return;
    }
    let mut watchdog = board.watchdog.start(Duration::from_millis(400));
    for _ in 0..10 {
        Timer::after_millis(100).await;
        watchdog.feed();
    }
    log!("hangs");
    critical_section::with(|_| {
        loop {
            cortex_m::asm::nop();
        }
    })
}

/// Runs code that lies in flash, as a boot loader will.
async fn execute(board: Board) {
    // movs r0, #42; bx lr
    const CODE: [u8; 4] = [0x2A, 0x20, 0x70, 0x47];
    let mut flash = board.regions.update_active;
    flash.erase(0, 4096).await.expect("the first page");
    flash.write(0, &CODE).await.expect("the first word");
    let address = flash.address();
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
    log!("calls {address:#x}");
    assert_eq!(call(address), 42);
}

#[allow(unsafe_code, reason = "what lies in flash is code by the caller's word")]
fn call(address: usize) -> u32 {
    // SAFETY: `execute` has put a function of this type there; the lowest bit says Thumb.
    let function: extern "C" fn() -> u32 = unsafe { core::mem::transmute(address | 1) };
    function()
}
