use std::net::TcpListener;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

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

/// What a proxy that answers so makes of a request; and the request.
fn asked(proxy: &str, answer: &[u8]) -> (Result<(), DialError>, String) {
    let proxy: Proxy = proxy.parse().unwrap();
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
