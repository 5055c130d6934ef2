//! Ctrl-C and SIGTERM as a question: what holds mounts and daemons must come to its end in order,
//! so that everything is cleaned up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Whether this process was asked to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on signals only set what [`Interrupt::check`] looks at.
    ///
    /// # Errors
    /// The system takes no handlers.
    pub fn watch() -> Result<Self> {
        let asked = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let flag = Arc::clone(&asked.0);
        let listen = move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    flag.store(true, Ordering::SeqCst);
                }
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context("a thread")?;
        Ok(asked)
    }

    /// An error once this process was asked to end.
    ///
    /// # Errors
    /// It was.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::SeqCst) {
            bail!("interrupted");
        }
        Ok(())
    }
}
