//! Starts every device where it belongs: virtual and hostile ones as tasks of one thread, emulated ones on a thread each.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;
use tokio::task::{self, JoinError, JoinSet, LocalSet};

use super::link::proxy;
use super::qemu::{self, Bench};
use super::shared::{Phase, Set, Shared};
use super::{host, hostile};
use crate::failure::{Done, Failure};

/// Stack of a thread that watches a QEMU.
const STACK_BYTES: usize = 256 << 10;

/// Longest time from the end of everything to the end of a virtual device: all that it does then is to count.
const END_MAX: Duration = Duration::from_secs(5);

/// Threads that run devices, each with the first of its devices.
pub(super) struct Fleet(Vec<(usize, JoinHandle<()>)>);

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
        if let Some((first, _)) = tasks.first() {
            let (first, shared) = (*first, Arc::clone(shared));
            fleet.spawn(first, "devices", 8 << 20, move || virtually(&shared, tasks))?;
        }
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
        self.spawn(device, &name, STACK_BYTES, move || {
            qemu::run(&bench, &shared, device, address.port(), sets);
        })
    }

    fn spawn(
        &mut self,
        device: usize,
        name: &str,
        stack: usize,
        run: impl FnOnce() + Send + 'static,
    ) -> Done {
        let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(stack);
        self.0.push((device, thread.spawn(run).map_err(|error| failed(&error))?));
        Ok(())
    }

    /// Waits until all have ended, which they do at [`Phase::Stopped`].
    pub(super) fn join(self, shared: &Shared) {
        for (device, thread) in self.0 {
            if thread.join().is_err() {
                fails(shared, device, "its thread crashed: standard error says how");
            }
        }
    }
}

fn virtually(shared: &Arc<Shared>, tasks: Vec<(usize, Receiver<Set>)>) {
    let Ok(io) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let set = LocalSet::new();
    let mut crew = Crew::default();
    for (device, sets) in tasks {
        let shared = Arc::clone(shared);
        crew.spawn(&set, device, async move {
            if shared.handles[device].plan.is_hostile {
                hostile::run(&shared, device).await;
            } else {
                host::run(&shared, device, sets).await;
            }
        });
    }
    io.block_on(set.run_until(crew.join(shared, END_MAX)));
}

/// The tasks of virtual devices. They are awaited: what a device counts last, it counts after the end of everything, and
/// one that crashed is a failure.
#[derive(Default)]
struct Crew {
    tasks: JoinSet<()>,
    devices: HashMap<task::Id, usize>,
}

impl Crew {
    fn spawn(&mut self, set: &LocalSet, device: usize, run: impl Future<Output = ()> + 'static) {
        let id = self.tasks.spawn_local_on(run, set).id();
        self.devices.insert(id, device);
    }

    /// Returns when all have ended, or so long after [`Phase::Stopped`].
    async fn join(mut self, shared: &Shared, end_max: Duration) {
        let late = async {
            shared.reached(Phase::Stopped).await;
            tokio::time::sleep(end_max).await;
        };
        tokio::pin!(late);
        loop {
            let ended = tokio::select! {
                biased;
                ended = self.tasks.join_next_with_id() => ended,
                () = &mut late => break,
            };
            let Some(ended) = ended else { return };
            self.note(shared, ended);
        }
        for device in self.devices.into_values() {
            fails(shared, device, "it does not end");
        }
    }

    fn note(&mut self, shared: &Shared, ended: Result<(task::Id, ()), JoinError>) {
        let (id, words) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(format!("it crashed: {error}"))),
        };
        if let (Some(device), Some(words)) = (self.devices.remove(&id), words) {
            fails(shared, device, &words);
        }
    }
}

fn fails(shared: &Shared, device: usize, words: &str) {
    shared.ledger().account(device).failures.push(words.to_owned());
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("a device cannot be started: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fake::{self, Gateway};

    #[test]
    fn a_crash_and_a_device_without_an_end_are_failures_and_last_words_are_heard() {
        let shared = fake::shared("127.0.0.1:1", 3);
        let io = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let set = LocalSet::new();
        let mut crew = Crew::default();
        crew.spawn(&set, 0, async { panic!("planted") });
        let last = Arc::clone(&shared);
        crew.spawn(&set, 1, async move {
            last.reached(Phase::Stopped).await;
            task::yield_now().await;
            last.ledger().account(1).refused += 1;
        });
        crew.spawn(&set, 2, std::future::pending());
        shared.phase.send_replace(Phase::Stopped);
        io.block_on(set.run_until(crew.join(&shared, Duration::from_secs(3))));
        let ledger = shared.ledger();
        let failures: Vec<_> = ledger.accounts().iter().map(|it| it.failures.join("")).collect();
        assert!(failures[0].contains("planted"), "{failures:?}");
        assert_eq!(failures[1..], ["", "it does not end"]);
        assert_eq!(ledger.accounts()[1].refused, 1);
    }

    /// Its figures are counted when its life ends, which is after everything has.
    #[test]
    fn what_the_gateway_refused_in_the_last_life_is_counted() {
        let io = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let io = io.unwrap();
        // Its form is wrong: that does not pass, so the client lets go of the reading.
        let gateway = io.block_on(fake::start(Gateway { publish: 0x99, ..Gateway::default() }));
        let shared = fake::shared(&gateway, 1);
        let (_sets, receiver) = tokio::sync::mpsc::channel(1);
        let fleet = Fleet::start(&shared, None, vec![receiver], &io).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while shared.ledger().totals().acked < 2 && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(shared.ledger().accounts()[0].refused, 0, "its life goes on");
        shared.phase.send_replace(Phase::Settling);
        shared.phase.send_replace(Phase::Stopped);
        fleet.join(&shared);
        let ledger = shared.ledger();
        assert!(ledger.accounts()[0].refused > 0);
        assert!(ledger.accounts()[0].failures.is_empty());
    }
}
