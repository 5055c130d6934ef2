//! The tests run on a computer, where nobody takes log frames.

#[defmt::global_logger]
struct Nowhere;

// SAFETY: nothing is written, so nothing can be interleaved.
#[expect(unsafe_code, reason = "the trait of defmt is unsafe to implement")]
unsafe impl defmt::Logger for Nowhere {
    fn acquire() {}
    unsafe fn flush() {}
    unsafe fn release() {}
    unsafe fn write(_: &[u8]) {}
}

defmt::timestamp!("{=u8}", 0);

#[defmt::panic_handler]
fn panic() -> ! {
    panic!("a panic of defmt")
}
