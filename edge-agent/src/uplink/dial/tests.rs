use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Instant;

use proptest::prelude::*;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::*;
use crate::tls::{TimeFloor, pinned};

fn addresses(all: &[&str]) -> Vec<SocketAddr> {
    all.iter().map(|text| text.parse().expect(text)).collect()
}

#[test]
fn families_take_turns() {
    let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
    let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
    assert_eq!(in_turns(found), expected);
    assert_eq!(in_turns(Vec::new()), []);
    let many = vec![addresses(&["1.1.1.1:1"])[0]; 20];
    assert_eq!(in_turns(many).len(), ADDRESSES_MAX);
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// Attempts at an address: none ends at `1.1.1.1`, none succeeds at `2.2.2.2`, all others do.
async fn attempt(address: SocketAddr) -> io::Result<SocketAddr> {
    match address.ip().to_string().as_str() {
        "1.1.1.1" => std::future::pending().await,
        "2.2.2.2" => Err(io::ErrorKind::ConnectionRefused.into()),
        _ => Ok(address),
    }
}

#[test]
fn an_address_that_never_answers_costs_a_quarter_of_a_second() {
    let all = addresses(&["1.1.1.1:1", "1.1.1.1:2", "3.3.3.3:1"]);
    let since = Instant::now();
    assert_eq!(block_on(first_of(all.clone(), attempt)).unwrap(), all[2]);
    let took = since.elapsed();
    assert!(took >= 2 * NEXT_AFTER && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn an_address_that_refuses_costs_nothing() {
    let all = addresses(&["2.2.2.2:1", "2.2.2.2:2", "3.3.3.3:1", "1.1.1.1:1"]);
    let since = Instant::now();
    assert_eq!(block_on(first_of(all.clone(), attempt)).unwrap(), all[2]);
    assert!(since.elapsed() < 2 * NEXT_AFTER, "{:?}", since.elapsed());
    let error = block_on(first_of(all[..2].to_vec(), attempt)).expect_err("nobody is there");
    assert!(error.to_string().starts_with("2.2.2.2:2: "), "{error}");
    // One that hangs beside one that refuses.
    let all = addresses(&["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1"]);
    assert_eq!(block_on(first_of(all.clone(), attempt)).unwrap(), all[2]);
    block_on(first_of(Vec::new(), attempt)).expect_err("nothing to try");
}

#[test]
fn a_real_connection_is_made() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = block_on(tcp("localhost", port, &Route::Direct)).unwrap();
    assert!(stream.nodelay().unwrap());
    drop(listener);
    let error = block_on(tcp("127.0.0.1", port, &Route::Direct)).expect_err("nobody listens");
    assert!(error.to_string().starts_with(&format!("127.0.0.1:{port}: 127.0.0.1:{port}: ")));
}

/// A real address behind which nobody answers, as long as what is returned lives: its queue is full.
async fn dead() -> (SocketAddr, impl Sized) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(NEXT_AFTER, TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 100, "its queue does not fill");
    }
    (address, (listener, queued))
}

#[test]
fn behind_a_dead_address_the_next_one_is_taken() {
    block_on(async {
        let (dead, _held) = dead().await;
        let alive = TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let last = listener.local_addr().unwrap();
        // The first never answers, nobody listens at the second any more.
        let stream = first_of(vec![dead, alive, last], TcpStream::connect).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), last);
    });
}

/// Where somebody does so with each connection that comes.
fn serving(work: impl Fn(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(work));
    address
}

/// A control plane that takes its time before it says a word, and how to trust it.
fn control_plane(takes: Duration) -> (SocketAddr, Arc<rustls::ClientConfig>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["cloud".to_owned()]).unwrap();
    let own = params.self_signed(&key).unwrap().der().clone();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.clone()).unwrap();
    let trusting = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
    let trusting = trusting.with_safe_default_protocol_versions().unwrap();
    let trusting = trusting.with_root_certificates(roots).with_no_client_auth();
    let server = rustls::ServerConfig::builder_with_provider(provider);
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let server = Arc::new(server.with_single_cert(vec![own], key).unwrap());
    let address = serving(move |client| {
        std::thread::sleep(takes);
        let tls = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
        let _ = std::io::copy(&mut rustls::StreamOwned::new(tls, client), &mut std::io::sink());
    });
    (address, Arc::new(trusting))
}

/// One that takes connections and answers nothing, as behind a path that swallows long packets.
fn mute() -> SocketAddr {
    serving(|mut client| {
        let _ = std::io::copy(&mut client, &mut std::io::sink());
    })
}

/// One that speaks something else.
fn stranger() -> SocketAddr {
    serving(|mut client| {
        let _ = client.read_exact(&mut [0; 5]);
        let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        // Else what was not read would cut the answer off.
        let _ = std::io::copy(&mut client, &mut std::io::sink());
    })
}

fn hanging_up() -> SocketAddr {
    serving(|mut client| {
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(&mut client, &mut std::io::sink());
    })
}

/// Which address TLS was agreed on with.
fn agreed(
    all: &[SocketAddr],
    tls: &Arc<rustls::ClientConfig>,
    patience: Duration,
) -> Result<SocketAddr, DialError> {
    let name = ServerName::try_from("cloud").unwrap();
    let server = Server { host: "cloud", port: 1, name, tls: Arc::clone(tls).into(), patience };
    let stream = block_on(async {
        let dialled = timeout(Duration::from_secs(60), server.dial(all.to_vec()));
        dialled.await.expect("it comes to an end")
    })?;
    Ok(stream.get_ref().0.peer_addr().unwrap())
}

/// Long enough for a busy machine.
const CALM: Duration = Duration::from_secs(20);
/// Over at once.
const SHORT: Duration = Duration::from_millis(50);

#[test]
fn an_address_that_cannot_do_tls_does_not_hide_the_next_one() {
    let (good, tls) = control_plane(Duration::ZERO);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for bad in [stranger(), hanging_up()] {
        assert_eq!(agreed(&[bad, good], &tls, CALM).unwrap(), good);
        assert_eq!(agreed(&[nobody, bad, stranger(), good], &tls, CALM).unwrap(), good);
    }
    let (other, _) = control_plane(Duration::ZERO);
    assert_eq!(agreed(&[other, good], &tls, CALM).unwrap(), good, "of another authority");
    assert_eq!(agreed(&[mute(), mute(), good], &tls, Duration::from_secs(2)).unwrap(), good);
}

#[test]
fn a_slow_address_is_not_given_up_for_others_that_are_of_no_use() {
    let (slow, tls) = control_plane(10 * SHORT);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for other in [nobody, stranger(), mute()] {
        assert_eq!(agreed(&[slow, other], &tls, SHORT).unwrap(), slow);
    }
}

#[test]
fn of_addresses_that_cannot_do_tls_the_last_error_is_told() {
    let (_, tls) = control_plane(Duration::ZERO);
    let why = |all: &[SocketAddr]| agreed(all, &tls, CALM).expect_err("of no use").to_string();
    let (ended, odd) = (why(&[hanging_up()]), why(&[stranger()]));
    assert_ne!(ended, odd);
    assert_eq!(why(&[hanging_up(), stranger()]), odd);
    assert_eq!(why(&[stranger(), hanging_up()]), ended);
    // That nobody takes a connection elsewhere says less.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(why(&[stranger(), nobody]), odd);
    assert_eq!(why(&[nobody, stranger()]), odd);
    let why = why(&[nobody]);
    assert!(why.starts_with("cloud:1: "), "{why}");
}

/// What `dial` makes of a proxy that does so with each connection, behind the request.
fn dialled(proxy: impl Fn(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let serving = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        proxy(client);
    });
    let route = Route::Proxy(place.parse().unwrap());
    let tls = pinned([0; 32], TimeFloor::new(0)).unwrap();
    let error = block_on(dial("cloud.example", 8_883, &route, tls)).expect_err("hostile");
    serving.join().unwrap();
    error.to_string()
}

#[test]
fn hostile_proxies_are_given_up_and_told() {
    let says = |answer: &'static [u8]| {
        dialled(move |mut client| {
            let _ = client.write_all(answer);
        })
    };
    let endless = dialled(|mut client| while client.write_all(b"HTTP/1.1 200 OK ").is_ok() {});
    assert!(endless.contains("its answer does not end"), "{endless}");
    // A byte at a time, as a slow one does: the head has its bound all the same.
    let drip = dialled(|mut client| {
        client.set_nodelay(true).unwrap();
        let _ = client.write_all(b"HTTP/1.1 ");
        while client.write_all(b"x").is_ok() {}
    });
    assert!(drip.contains("its answer does not end"), "{drip}");
    let told = [
        (says(b""), "it hangs up"),
        (says(b"HTTP/1.1 407 Login\r\nProxy-Authenticate: NTLM\r\n\r\n"), "(407)"),
        (says(b"HTTP/1.1 403 Forbidden\r\n\r\n<html>no</html>"), "(403)"),
        (says(b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\n\r\n"), "it answers 503"),
        (says(b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n"), "it answers 302"),
        (says(b"HTTP/1.1 200 OK\r\n\r\nwelcome"), "something comes before"),
        // It lets through, and is gone, or answers itself.
        (says(b"HTTP/1.1 200 OK\r\n\r\n"), "TLS with cloud.example:8883: "),
        (
            dialled(|mut client| {
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                let _ = client.read_exact(&mut [0; 5]);
                let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }),
            "TLS with cloud.example:8883: ",
        ),
    ];
    for (why, expected) in told {
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn a_silent_proxy_takes_as_long_as_its_caller_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let route = Route::Proxy(listener.local_addr().unwrap().to_string().parse().unwrap());
    let tls = pinned([0; 32], TimeFloor::new(0)).unwrap();
    let since = Instant::now();
    let dialled = async { timeout(NEXT_AFTER, dial("cloud.example", 1, &route, tls)).await };
    block_on(dialled).expect_err("silent");
    assert!(since.elapsed() < Duration::from_secs(5));
    // Given up, it is hung up on.
    let mut all = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
    assert!(all.starts_with(b"CONNECT cloud.example:1 "));
}

/// What a proxy that answers so makes of a request; and the request.
fn asked(proxy: &str, answer: &[u8]) -> (Result<(), DialError>, String) {
    let proxy: Proxy = format!("http://{proxy}").parse().unwrap();
    block_on(async {
        let (mut ours, mut theirs) = tokio::io::duplex(64 << 10);
        theirs.write_all(answer).await.unwrap();
        theirs.shutdown().await.unwrap();
        let done = through(&mut ours, &proxy, "cloud.example", 8_883).await;
        drop(ours);
        let mut request = String::new();
        theirs.read_to_string(&mut request).await.unwrap();
        (done, request)
    })
}

#[test]
fn a_proxy_is_asked_and_its_answers_are_understood() {
    let (done, request) = asked("u:p w@h:1", b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n");
    done.unwrap();
    let expected = "CONNECT cloud.example:8883 HTTP/1.1\r\nHost: cloud.example:8883\r\n\
                    Proxy-Authorization: Basic dTpwIHc=\r\n\r\n";
    assert_eq!(request, expected);
    assert!(!asked("h:1", b"").1.contains("Authorization"));
    let why = |answer: &[u8]| asked("u:hunter2@h:1", answer).0.expect_err("refused").to_string();
    let told = [
        (
            &b"HTTP/1.1 407 X\r\nContent-Length: 9\r\n\r\nmore text"[..],
            "wants a user and a password",
        ),
        (b"HTTP/1.0 403 No\r\n\r\n", "does not allow cloud.example:8883 (403)"),
        (b"HTTP/1.1 502 Bad\r\n\r\n", "it answers 502"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "something comes before"),
        (b"SSH-2.0-x\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 2", "it hangs up"),
        (b"", "it hangs up"),
    ];
    for (answer, expected) in told {
        let why = why(answer);
        assert!(why.contains(expected) && why.contains("h:1"), "{why}");
        assert!(!why.contains("hunter2"), "{why}");
    }
    let endless = [b"HTTP/1.1 200 OK\r\n".as_slice(), &vec![b'x'; ANSWER_BYTES_MAX]].concat();
    assert!(why(&endless).contains("does not end"));
}

#[test]
fn a_bad_route_and_an_odd_host_reach_nobody() {
    let bad = Route::Bad("mend it".to_owned());
    assert_eq!(block_on(tcp("h", 1, &bad)).expect_err("bad").to_string(), "mend it");
    let proxy: Proxy = "h:1".parse().unwrap();
    let (mut ours, _theirs) = tokio::io::duplex(64);
    let error = block_on(through(&mut ours, &proxy, "x\r\nInjected: y", 1)).expect_err("odd");
    assert!(error.to_string().contains("is no host"), "{error}");
}

proptest! {
    #[test]
    fn any_answer_is_judged(answer in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = status(&answer);
        let http = [b"HTTP/1.1 ".as_slice(), &answer, b"\r\n\r\n"].concat();
        let _ = status(&http);
    }
}
