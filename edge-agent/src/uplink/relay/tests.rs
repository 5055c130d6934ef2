use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream as StdStream};
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};

use tokio::io::{DuplexStream, ReadBuf, duplex};

use super::*;

/// Tells the stranger where to knock.
const SOCKET: &str = "HOLM_TEST_SOCKET";

/// With threads, so that nothing holds by the order of one.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(work)
}

async fn opened() -> (Relay, UnixStream, DuplexStream) {
    let (ours, theirs) = duplex(1_024);
    let relay = Relay::open(ours).unwrap();
    let client = UnixStream::connect(relay.name()).await.unwrap();
    (relay, client, theirs)
}

async fn all_of(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    // An end is an end.
    let _ = stream.read_to_end(&mut all).await;
    all
}

#[test]
fn bytes_go_both_ways_whole_and_in_order() {
    block_on(async {
        let (relay, client, server) = opened().await;
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
        let (mut from_relay, mut to_relay) = client.into_split();
        let (mut from_server, mut to_server) = split(server);
        let out = bytes.clone();
        let up = tokio::spawn(async move {
            to_relay.write_all(&out).await.unwrap();
            to_relay
        });
        let back = bytes.clone();
        let down = tokio::spawn(async move { to_server.write_all(&back).await.unwrap() });
        let (mut at_server, mut at_client) = (vec![0; bytes.len()], vec![0; bytes.len()]);
        let (server, client) = tokio::join!(
            from_server.read_exact(&mut at_server),
            from_relay.read_exact(&mut at_client)
        );
        assert_eq!((server.unwrap(), client.unwrap()), (bytes.len(), bytes.len()));
        assert!(at_server == bytes && at_client == bytes);
        down.await.unwrap();
        drop(up.await.unwrap());
        assert_eq!(relay.why(), None);
    });
}

/// A server that takes all, or nothing; what it says last comes when something was written.
struct Refusing {
    takes: bool,
    is_written: bool,
    reader: Option<Waker>,
}

impl AsyncRead for Refusing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_written {
            return Poll::Ready(Err(io::Error::other("alert: unknown authority")));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Refusing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_written = true;
        self.reader.take().into_iter().for_each(Waker::wake);
        let taken =
            if self.takes { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) };
        Poll::Ready(taken)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// TLS 1.3 refuses a client's certificate at its first read, and may have closed by then.
#[test]
fn the_reason_is_there_before_the_end() {
    block_on(async {
        for round in 0..200 {
            let server = Refusing { takes: round % 2 == 0, is_written: false, reader: None };
            let relay = Relay::open(server).unwrap();
            let mut client = UnixStream::connect(relay.name()).await.unwrap();
            client.write_all(b"hello").await.unwrap();
            assert_eq!(all_of(client).await, b"");
            assert_eq!(relay.why(), Some("alert: unknown authority"));
        }
    });
}

#[test]
fn a_server_that_closes_ends_the_client() {
    block_on(async {
        let (relay, client, mut server) = opened().await;
        server.write_all(b"last").await.unwrap();
        drop(server);
        assert_eq!(all_of(client).await, b"last");
        assert_eq!(relay.why(), Some("the control plane closed the connection"));
        relay.finish().await;
    });
}

/// A goodbye is written, then the client closes, whatever it has not read.
#[test]
fn what_a_client_wrote_before_it_closed_arrives() {
    block_on(async {
        for unread in [0, 700] {
            let (relay, mut client, server) = opened().await;
            let (from_relay, mut to_relay) = split(server);
            to_relay.write_all(&vec![1; unread]).await.unwrap();
            let (reading, goodbye) = (tokio::spawn(all_of(from_relay)), vec![9; 100_000]);
            client.write_all(&goodbye).await.unwrap();
            drop(client);
            // The relay meets a client that takes nothing, too.
            let _ = to_relay.write_all(&[2; 300]).await;
            relay.finish().await;
            assert_eq!(reading.await.unwrap(), goodbye);
        }
    });
}

#[test]
fn dropped_it_ends_both() {
    block_on(async {
        let (relay, mut client, mut server) = opened().await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        drop(relay);
        assert_eq!(all_of(client).await, b"");
        assert_eq!(all_of(server).await, b"");
        // One that nobody has connected to.
        let (ours, theirs) = duplex(64);
        drop(Relay::open(ours).unwrap());
        assert_eq!(all_of(theirs).await, b"");
    });
}

#[test]
fn the_door_is_closed_behind_the_client() {
    block_on(async {
        let (relay, mut client, mut server) = opened().await;
        client.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();
        let second = UnixStream::connect(relay.name()).await.expect_err("nobody listens");
        assert_eq!(second.kind(), io::ErrorKind::ConnectionRefused);
        let (next, ..) = opened().await;
        assert_ne!(next.name(), relay.name());
    });
}

#[test]
fn a_stranger_is_hung_up_on() {
    block_on(async {
        let (ours, mut server) = duplex(64);
        let relay = Relay::open(ours).unwrap();
        let knocking = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "uplink::relay::tests::a_stranger_knocks"])
            .env(SOCKET, relay.name().trim_start_matches('\0'))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&knocking.stdout).into_owned();
        assert!(knocking.status.success() && told.contains("1 passed"), "{told}");
        let mut client = UnixStream::connect(relay.name()).await.unwrap();
        client.write_all(b"mine").await.unwrap();
        let mut first = [0; 4];
        server.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"mine", "nothing of the stranger came through");
    });
}

#[test]
#[ignore = "run by the test above, as another process"]
fn a_stranger_knocks() {
    use std::io::{Read as _, Write as _};
    let Ok(name) = std::env::var(SOCKET) else { return };
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let mut stream = StdStream::connect_addr(&address).unwrap();
    // It may have been hung up on already.
    let _ = stream.write_all(b"stranger");
    let mut byte = [0];
    assert!(!matches!(stream.read(&mut byte), Ok(1..)), "the stranger gets through");
}
