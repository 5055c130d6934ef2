//! For tests: a gateway that says what it is told to, and a simulation that nobody has started.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::credentials::{Credentials, name_of};
use super::ledger::{Ledger, Role};
use super::plan;
use super::profile::Profile;
use super::shared::{Handle, Shared};

/// What it answers.
#[derive(Clone, Copy)]
pub(crate) struct Gateway {
    /// Reason code of MQTT; 0 is yes.
    pub(crate) login: u8,
    /// As `login`.
    pub(crate) publish: u8,
    /// So many messages at once.
    pub(crate) receive_max: u16,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { login: 0, publish: 0, receive_max: u16::MAX }
    }
}

/// So many virtual devices that all come at once.
pub(super) fn shared(gateway: &str, devices: u32) -> Arc<Shared> {
    shared_with("", gateway, devices)
}

/// The same, with more lines of the profile.
pub(super) fn shared_with(lines: &str, gateway: &str, devices: u32) -> Arc<Shared> {
    let text = format!("period = \"20 ms\"\njoin = \"1 ms\"\n{lines}");
    let profile = Profile::parse(&text, &|_| Err(String::new())).unwrap();
    let names: Vec<String> = (1..=devices).map(name_of).collect();
    let credentials = Credentials::fresh(&names, None).unwrap();
    let handles = plan::of(&profile, &names, 1, 0).into_iter().map(|plan| Handle::new(plan).0);
    let handles = handles.collect();
    let ledger = Ledger::new(names.into_iter().map(|name| (name, Role::Virtual)));
    Arc::new(Shared::new(profile, 1, gateway.to_owned(), credentials, handles, ledger))
}

/// An address where nobody listens.
pub(super) async fn nobody() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Starts it; it ends with the test.
pub(crate) async fn start(gateway: Gateway) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, gateway));
        }
    });
    address
}

/// Ends with the first thing that it does not understand.
async fn serve(mut stream: TcpStream, gateway: Gateway) -> std::io::Result<()> {
    loop {
        let head = stream.read_u8().await?;
        let mut body = vec![0; length(&mut stream).await?];
        if head >> 4 == 15 {
            return Ok(());
        }
        stream.read_exact(&mut body).await?;
        let answer = match head >> 4 {
            1 => {
                let [high, low] = gateway.receive_max.to_be_bytes();
                vec![0x20, 6, 0, gateway.login, 3, 0x21, high, low]
            }
            3 if head & 6 == 0 => continue,
            3 => {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                vec![0x40, 3, body[2 + topic], body[3 + topic], gateway.publish]
            }
            8 => vec![0x90, 4, body[0], body[1], 0, 1],
            12 => vec![0xd0, 0],
            _ => return Ok(()),
        };
        stream.write_all(&answer).await?;
        if head >> 4 == 1 && gateway.login != 0 {
            return Ok(());
        }
    }
}

/// The length of a packet: seven bits a byte.
async fn length(stream: &mut TcpStream) -> std::io::Result<usize> {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let byte = stream.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Ok(length)
}
