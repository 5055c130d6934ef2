//! Starts every device where it belongs: virtual and hostile ones as tasks of one thread, emulated ones on a thread each.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;
use tokio::task::LocalSet;

use super::link::proxy;
use super::qemu::{self, Bench};
use super::shared::{Phase, Set, Shared};
use super::{host, hostile};
use crate::failure::{Done, Failure};

/// Stack of a thread that watches a QEMU.
const STACK_BYTES: usize = 256 << 10;

/// Threads that run devices.
pub(super) struct Fleet(Vec<JoinHandle<()>>);

impl Fleet {
    /// Starts all devices; with `bench` all that are not hostile are emulated.
    ///
    /// # Errors
    /// The system gives no thread or no port.
    pub(super) fn start(
        shared: &Arc<Shared>,
        bench: Option<Bench>,
        sets: Vec<Receiver<Set>>,
        io: &Runtime,
    ) -> Done<Self> {
        let mut fleet = Self(Vec::new());
        let bench = bench.map(Arc::new);
        let mut tasks = Vec::new();
        for (device, sets) in sets.into_iter().enumerate() {
            match &bench {
                Some(bench) if !shared.handles[device].plan.is_hostile => {
                    fleet.emulate(Arc::clone(bench), shared, device, sets, io)?;
                }
                _ => tasks.push((device, sets)),
            }
        }
        let shared = Arc::clone(shared);
        let run = move || virtually(&shared, tasks);
        fleet.spawn("devices", 8 << 20, run)?;
        Ok(fleet)
    }

    fn emulate(
        &mut self,
        bench: Arc<Bench>,
        shared: &Arc<Shared>,
        device: usize,
        sets: Receiver<Set>,
        io: &Runtime,
    ) -> Done {
        let handle = &shared.handles[device];
        let link = proxy(shared.gateway.clone(), handle.link.subscribe());
        let address = io.block_on(link).map_err(|error| failed(&error))?;
        bench.forget(&handle.plan.name)?;
        let (name, shared) = (handle.plan.name.clone(), Arc::clone(shared));
        self.spawn(&name, STACK_BYTES, move || {
            qemu::run(&bench, &shared, device, address.port(), sets);
        })
    }

    fn spawn(&mut self, name: &str, stack: usize, run: impl FnOnce() + Send + 'static) -> Done {
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(stack);
        self.0.push(thread.spawn(run).map_err(|error| failed(&error))?);
        Ok(())
    }

    /// Waits until all have ended, which they do at [`Phase::Stopped`].
    pub(super) fn join(self) {
        for thread in self.0 {
            // One that crashed has said so on standard error.
            let _ = thread.join();
        }
    }
}

fn virtually(shared: &Arc<Shared>, tasks: Vec<(usize, Receiver<Set>)>) {
    let Ok(io) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let set = LocalSet::new();
    for (device, sets) in tasks {
        let shared = Arc::clone(shared);
        set.spawn_local(async move {
            if shared.handles[device].plan.is_hostile {
                hostile::run(&shared, device).await;
            } else {
                host::run(&shared, device, sets).await;
            }
        });
    }
    io.block_on(set.run_until(shared.reached(Phase::Stopped)));
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("a device cannot be started: {error}"))
}
