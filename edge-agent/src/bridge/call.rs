//! The connection of one device to the broker, from the task of its bus.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

/// From the connection of a device.
pub(super) struct Said {
    pub(super) address: u8,
    pub(super) call: u32,
    /// `None` at its end.
    pub(super) bytes: Option<Vec<u8>>,
}

/// Carries bytes between a device's session and the broker until either ends.
pub(super) async fn carry(
    stream: DuplexStream,
    address: u8,
    call: u32,
    mut packets: mpsc::Receiver<Vec<u8>>,
    said: mpsc::Sender<Said>,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let up = async {
        while let Some(bytes) = packets.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buf = vec![0; 4_096];
        while let Ok(length @ 1..) = reader.read(&mut buf).await {
            let bytes = Some(buf[..length].to_vec());
            if said.send(Said { address, call, bytes }).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
    // Nobody listens where the runtime ends.
    let _ = said.send(Said { address, call, bytes: None }).await;
}
