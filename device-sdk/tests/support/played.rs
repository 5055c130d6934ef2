//! A gateway that is played: it takes everything, and says what the test wants said.

use std::io;
use std::net::Ipv4Addr;

use device_sdk::protocol::Down;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A listener on a free port of the loopback, and the port.
pub(crate) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A PUBLISH of the device, QoS 1.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) id: [u8; 2],
    pub(crate) payload: Vec<u8>,
}

/// A packet that a device sends.
#[derive(Debug)]
pub(crate) enum Packet {
    Connect,
    Publish(Publish),
    Subscribe([u8; 2]),
    Ping,
    Other,
}

/// The next packet; all are shorter than 16 KiB.
pub(crate) async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Packet> {
    let first = stream.read_u8().await?;
    let mut length = usize::from(stream.read_u8().await?);
    if length >= 0x80 {
        length = (length & 0x7f) | usize::from(stream.read_u8().await?) << 7;
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    Ok(match first >> 4 {
        1 => Packet::Connect,
        3 => {
            let (topic, behind) =
                rest[2..].split_at(usize::from(u16::from_be_bytes([rest[0], rest[1]])));
            let topic = String::from_utf8(topic.to_vec()).unwrap();
            let properties = usize::from(behind[2]);
            assert!(properties < 0x80, "short properties");
            let payload = behind[3 + properties..].to_vec();
            Packet::Publish(Publish { topic, id: [behind[0], behind[1]], payload })
        }
        8 => Packet::Subscribe([rest[0], rest[1]]),
        12 => Packet::Ping,
        _ => Packet::Other,
    })
}

/// What confirms a packet, where something does; a device without a session.
pub(crate) fn confirmation(packet: &Packet) -> Vec<u8> {
    match packet {
        Packet::Connect => vec![0x20, 3, 0, 0, 0],
        Packet::Publish(publish) => puback(publish.id, 0),
        Packet::Subscribe([high, low]) => vec![0x90, 4, *high, *low, 0, 1],
        Packet::Ping => vec![0xd0, 0],
        Packet::Other => vec![],
    }
}

/// A PUBACK with this reason code.
pub(crate) fn puback([high, low]: [u8; 2], reason: u8) -> Vec<u8> {
    vec![0x40, 4, high, low, reason, 0]
}

/// A message for the device, QoS 0.
pub(crate) fn publish(device: &str, down: &Down<'_>) -> Vec<u8> {
    let mut payload = vec![0; 2_048];
    let length = down.encode(&mut payload).unwrap();
    let topic = down.topic(device).unwrap();
    let mut rest = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    rest.extend_from_slice(topic.as_bytes());
    rest.push(0);
    rest.extend_from_slice(&payload[..length]);
    let [low, high] = [rest.len() & 0x7f, rest.len() >> 7].map(|part| u8::try_from(part).unwrap());
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [&[0x30], length.as_slice(), &rest].concat()
}

/// Confirms all that a device sends; `hear` is given it, and makes packets to be sent behind the confirmation.
pub(crate) async fn serve(
    mut stream: TcpStream,
    mut hear: impl FnMut(&Packet) -> Vec<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let packet = packet(&mut stream).await?;
        stream.write_all(&confirmation(&packet)).await?;
        for answer in hear(&packet) {
            stream.write_all(&answer).await?;
        }
    }
}
