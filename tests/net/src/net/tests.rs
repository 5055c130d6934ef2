//! The simulated network gives what TCP gives, and breaks as it is told.

use std::time::Duration;

use simulator::rng::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

use super::*;
use edge_broker::transport::Incoming;

const SERVER: &str = "10.0.0.1:1883";
const LINK: LinkId = LinkId::Device(0);

/// Runs a test in virtual time, over a network that ticks.
fn virtually<F: Future<Output = ()>>(test: impl FnOnce(Net, SocketAddr) -> F) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let net = Net::new(Rng::new(1));
        let ticking = net.clone();
        tokio::spawn(async move {
            loop {
                ticking.tick();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        test(net, SERVER.parse().unwrap()).await;
    });
}

#[test]
fn bytes_arrive_in_order_after_the_latency_and_at_the_rate() {
    virtually(|net, address| async move {
        net.set_speed(LINK, Duration::from_millis(100), Some(10_000));
        let mut incoming = net.listen(address);
        let mut client = net.dial(LINK, address);
        let began = Instant::now();
        let sent: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        client.write_all(&sent).await.unwrap();
        let (mut server, from) = incoming.accept().await.unwrap();
        assert_ne!(from, address);
        let mut got = vec![0; sent.len()];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        let took = began.elapsed();
        assert!((2_200..2_500).contains(&took.as_millis()), "20 kB at 10 kB/s: {took:?}");
        drop(client);
        assert_eq!(server.read(&mut got).await.unwrap(), 0, "an end");
    });
}

#[test]
fn a_link_that_is_down_holds_bytes_back_and_gives_them_later() {
    virtually(|net, address| async move {
        let mut incoming = net.listen(address);
        let mut client = net.dial(LINK, address);
        let (mut server, _) = incoming.accept().await.unwrap();
        net.set_down(LINK, true);
        client.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        let late = tokio::time::timeout(Duration::from_secs(60), server.read_exact(&mut got));
        assert!(late.await.is_err(), "nothing comes over a link that is down");
        net.set_down(LINK, false);
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    });
}

#[test]
fn a_vanished_connection_is_silent_and_its_window_fills() {
    virtually(|net, address| async move {
        let mut incoming = net.listen(address);
        let client = net.dial(LINK, address);
        let (mut server, _) = incoming.accept().await.unwrap();
        client.vanish();
        let flood = vec![0; WINDOW_BYTES + 1];
        let written = tokio::time::timeout(Duration::from_secs(60), server.write_all(&flood));
        assert!(written.await.is_err(), "a writer waits at the window");
        let mut got = [0; 1];
        let read = tokio::time::timeout(Duration::from_secs(60), server.read(&mut got));
        assert!(read.await.is_err(), "neither end nor reset");
        assert_eq!(net.cut(LINK), 1);
    });
}

#[test]
fn a_cut_behind_so_many_bytes_lets_exactly_those_through() {
    virtually(|net, address| async move {
        let mut incoming = net.listen(address);
        let mut client = net.dial(LINK, address);
        let (mut server, _) = incoming.accept().await.unwrap();
        net.state().conns.values_mut().for_each(|conn| conn.flows[0].cut_after(3));
        let _ = client.write_all(b"hello").await;
        let mut got = Vec::new();
        let error = server.read_to_end(&mut got).await.unwrap_err();
        assert_eq!((error.kind(), got.as_slice()), (io::ErrorKind::ConnectionReset, &b"hel"[..]));
        assert!(client.write_all(b"again").await.is_err());
    });
}

#[test]
fn nobody_listens_nobody_answers() {
    virtually(|net, address| async move {
        let mut refused = net.dial(LINK, address);
        assert!(refused.read(&mut [0; 1]).await.is_err(), "refused");
        let mut incoming = net.listen(address);
        let mut client = net.dial(LINK, address);
        let (_server, _) = incoming.accept().await.unwrap();
        assert_eq!(net.end_host(address), 1);
        assert!(client.read(&mut [0; 1]).await.is_err(), "the process ended");
    });
}
