//! Imports what no gateway offers: a component that must be refused.

use function_sdk::prelude::*;

function_sdk::export!(ask);

mod foreign {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub fn sched_yield() -> i32;
    }
}

fn ask(_event: Event) -> Result {
    // SAFETY: takes nothing and returns a number.
    log!("{}", unsafe { foreign::sched_yield() });
    Ok(())
}
