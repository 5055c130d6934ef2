//! Serves bytes of artifacts: only what the gateway's desired state names.

use std::sync::Arc;

use sync_protocol::wire::{Chunk, ChunkRefused, ChunkRequest, Down};
use sync_protocol::{Digest, InstanceId};

use crate::blobs::Blobs;
use crate::deployments;
use crate::limits::INGEST_QUEUE_MAX;
use crate::store::{self, Store, StoreError};
use tokio::sync::mpsc;

/// A request of a gateway.
pub(super) struct Ask {
    pub(super) gateway: String,
    pub(super) request: ChunkRequest,
}

/// Starts the thread that serves chunks; it ends with the last sender.
pub(super) fn start(
    store: Arc<dyn Store>,
    blobs: Arc<Blobs>,
    instance: InstanceId,
    mut outbound: impl FnMut(String, Down) + Send + 'static,
) -> std::io::Result<mpsc::Sender<Ask>> {
    let (asks, mut queue) = mpsc::channel::<Ask>(INGEST_QUEUE_MAX);
    std::thread::Builder::new().name("chunks".into()).spawn(move || {
        while let Some(Ask { gateway, request }) = queue.blocking_recv() {
            let down = match serve(&*store, &blobs, instance, &gateway, request) {
                Ok(Ok(chunk)) => Down::Chunk(chunk),
                Ok(Err(reason)) => {
                    Down::ChunkRefused(ChunkRefused { digest: request.digest, reason })
                }
                Err(error) => {
                    tracing::error!(%error, gateway, digest = %request.digest, "no chunk");
                    continue; // The gateway asks again.
                }
            };
            outbound(gateway, down);
        }
    })?;
    Ok(asks)
}

/// Where the bytes of a digest are.
enum Place {
    Manifest(Vec<u8>),
    Artifact(u64),
}

fn serve(
    store: &dyn Store,
    blobs: &Blobs,
    instance: InstanceId,
    gateway: &str,
    request: ChunkRequest,
) -> Result<Result<Chunk, String>, StoreError> {
    let Some(place) = find(store, instance, gateway, &request.digest)? else {
        let reason = "the desired state of this gateway does not name it";
        return Ok(Err(reason.to_owned()));
    };
    let len = request.len as usize;
    let (total, bytes) = match place {
        Place::Manifest(manifest) => {
            let from = usize::try_from(request.offset).unwrap_or(usize::MAX).min(manifest.len());
            let to = from.saturating_add(len).min(manifest.len());
            (manifest.len() as u64, manifest[from..to].to_vec())
        }
        Place::Artifact(total) => match blobs.read(&request.digest, request.offset, len) {
            Ok(bytes) => (total, bytes),
            Err(error) => return Err(StoreError::Damaged(format!("artifact: {error}"))),
        },
    };
    if request.offset >= total {
        return Ok(Err(format!("offset {} is at or after the end, {total}", request.offset)));
    }
    Ok(Ok(Chunk { digest: request.digest, offset: request.offset, total, bytes }))
}

fn find(
    store: &dyn Store,
    instance: InstanceId,
    gateway: &str,
    digest: &Digest,
) -> Result<Option<Place>, StoreError> {
    store::read(store, |rows| {
        let Some(gateway) = rows.member(gateway)? else { return Ok(None) };
        let desired = deployments::desired(rows, instance, gateway.id)?;
        let revisions: Vec<Digest> = desired.apps.iter().map(|app| app.revision).collect();
        if revisions.contains(digest) {
            let signed = rows.signed_manifest(digest)?;
            return Ok(signed.map(|signed| Place::Manifest(signed.to_bytes())));
        }
        Ok(rows.artifact_of(&revisions, digest)?.map(Place::Artifact))
    })
}
