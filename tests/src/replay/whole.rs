//! The whole agent on what a power cut left: it comes up, the clients come back and go on from what
//! they had seen, and in the end everything was done once.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use crate::gateway::Gateway;
use crate::interrupt::Interrupt;
use crate::readings::Reading;

use super::load::{self, Scene};
use super::witness::{Mark, Notes, Witness};
use super::{inspect, judge};
use crate::host::Mount;

/// Messages of each device after it came back, beyond what had been acked.
const MORE: u32 = 40;
/// Longest wait for the gateway to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Notes of clients in memory.
#[derive(Clone)]
struct Memory(Arc<Mutex<Witness>>);

impl Notes for Memory {
    fn note(&mut self, marks: &[Mark]) -> Result<()> {
        let mut witness = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.iter().try_for_each(|mark| witness.take(*mark))
    }
}

/// Brings `gateway` up on the disk `image`, lets the clients go on from `witness`, and returns what
/// must not be.
///
/// # Errors
/// It does not come up, or the clients do not come to their end; that, too, is a finding.
pub(super) fn run(
    gateway: &mut Gateway,
    image: &Path,
    witness: &Witness,
    readings: &[Reading],
    interrupt: &Interrupt,
) -> Result<Vec<String>> {
    let mount = Mount::ext4(image, &gateway.data_dir())?;
    let end = go_on(gateway, witness, readings, interrupt);
    if end.is_err() {
        // Else the mount would stay busy. It may have ended by itself, which is the error then.
        let _ = gateway.kill();
    }
    let witness = end?;
    let found = inspect::read(mount.dir(), &[])?;
    mount.unmount()?;
    Ok(judge::judge(&found, &witness, readings))
}

fn go_on(
    gateway: &mut Gateway,
    witness: &Witness,
    readings: &[Reading],
    interrupt: &Interrupt,
) -> Result<Witness> {
    gateway.start()?;
    let furthest = witness.0.iter().map(|seen| seen.acked).max().unwrap_or_default();
    let scene =
        Scene { address: gateway.address(), ca: None, readings, upto: furthest + MORE, interrupt };
    let subscriber = load::resubscribe(&scene)?;
    let shared = Memory(Arc::new(Mutex::new(witness.clone())));
    std::thread::scope(|scope| {
        let scene = &scene;
        let mut clients = Vec::new();
        for (place, seen) in witness.0.iter().copied().enumerate() {
            let mut notes = shared.clone();
            clients.push(scope.spawn(move || load::send(scene, place, seen, &mut notes)));
        }
        let (mut notes, mut heard) = (shared.clone(), witness.0.clone());
        clients.push(scope.spawn(move || load::listen(scene, subscriber, &mut heard, &mut notes)));
        let ends = clients.into_iter().map(|client| client.join().expect("a client panicked"));
        ends.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
    })?;
    gateway.wait_idle(PATIENCE)?;
    gateway.stop()?;
    let witness = shared.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(witness)
}
