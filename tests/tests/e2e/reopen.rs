//! The small version of `cargo xtask bench reopen`.

use std::time::Duration;

use anyhow::Result;
use system_tests::reopen;

const FIRST_ACK_MAX: Duration = Duration::from_secs(5);

/// With an outbox far larger than the journal, a gateway that was killed acks again within 5 s on
/// one core.
#[test]
fn a_gateway_with_a_large_outbox_is_soon_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let figures = reopen::measure(dir.path(), 48 << 20, |_| ())?;
    println!("{figures:?}");
    assert!(figures.records > 40_000, "{figures:?}");
    assert!(figures.warm < FIRST_ACK_MAX && figures.cold < FIRST_ACK_MAX, "{figures:?}");
    Ok(())
}
