//! Pages need a session, and texts of gateways stay texts.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use sync_protocol::record::{DropReason, Phase, Quality, Stamp};
use sync_protocol::{Digest, InstanceId};
use tower::ServiceExt as _;

use super::*;
use crate::clock::Clock;
use crate::failure::Failure;
use crate::store;
use crate::store::access::OperatorRow;
use crate::store::deployments::AppRow;
use crate::store::records::{Content, EntryRow, Kind, Place};
use crate::store::sqlite::SqliteStore;

const TOKEN: &str = "holm-op-test";

struct Site {
    router: Router,
    store: Arc<SqliteStore>,
    _temp: tempfile::TempDir,
}

fn site() -> Site {
    let temp = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&temp.path().join("cloud.db")).unwrap());
    let added: Result<(), Failure> = store::write(&*store, |rows| {
        let (name, token) = ("admin".into(), Digest::of(TOKEN.as_bytes()));
        Ok(rows.put_operator(&OperatorRow { name, token, added_ms: 0 })?)
    });
    added.unwrap();
    let desk = Desk { store: store.clone(), clock: Clock::system() };
    let instance = InstanceId([1; 16]);
    let router = router(&WebParts { desk, live: Arc::default(), instance, secure: true });
    Site { router, store, _temp: temp }
}

impl Site {
    async fn ask(&self, request: Request<Body>) -> (StatusCode, Option<String>, String) {
        let reply = self.router.clone().oneshot(request).await.unwrap();
        assert!(reply.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        let status = reply.status();
        let cookie = reply.headers().get(header::SET_COOKIE);
        let cookie = cookie.map(|value| value.to_str().unwrap().to_owned());
        let text = to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        (status, cookie, String::from_utf8(text.to_vec()).unwrap())
    }

    async fn get(&self, path: &str, cookie: &str) -> (StatusCode, String) {
        let request = Request::get(path).header(header::COOKIE, cookie);
        let (status, _, text) = self.ask(request.body(Body::empty()).unwrap()).await;
        (status, text)
    }

    async fn login(&self, token: &str) -> (StatusCode, Option<String>) {
        let request = Request::post("/login")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(format!("token={token}")))
            .unwrap();
        let (status, cookie, _) = self.ask(request).await;
        (status, cookie)
    }
}

#[tokio::test]
async fn pages_need_a_session() {
    let site = site();
    for path in ["/", "/deployments", "/telemetry"] {
        assert_eq!(site.get(path, "").await.0, StatusCode::SEE_OTHER, "{path}");
    }
    assert_eq!(site.get("/fragments/fleet", "").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(site.get("/", "holm_session=guess").await.0, StatusCode::SEE_OTHER);
    assert_eq!(site.login("holm-op-wrong").await.0, StatusCode::UNAUTHORIZED);
    let (status, cookie) = site.login(TOKEN).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let cookie = cookie.unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("Secure"));
    let pair = cookie.split(';').next().unwrap();
    for path in ["/", "/deployments", "/telemetry", "/telemetry?gateway=nobody"] {
        let (status, text) = site.get(path, pair).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(text.contains("<!DOCTYPE html>"));
    }
    let leave = Request::post("/logout").header(header::COOKIE, pair).body(Body::empty());
    site.ask(leave.unwrap()).await;
    assert_eq!(site.get("/", pair).await.0, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn what_a_gateway_says_is_escaped() {
    let site = site();
    let evil = "<script>alert(1)</script>";
    let said: Result<(), Failure> = store::write(&*site.store, |rows| {
        let gateway = rows.add_gateway("gw-a", 1)?;
        let app = AppRow {
            app: evil.into(),
            revision: Digest([2; 32]),
            phase: Phase::Failed,
            reason: evil.into(),
            running: None,
            generation: 1,
            at_ms: 1,
        };
        rows.put_app(gateway, &app)?;
        Ok(rows.raise_alarm(gateway, "two-gateways", evil, 1)?)
    });
    said.unwrap();
    let cookie = site.login(TOKEN).await.1.unwrap();
    let (_, text) = site.get("/", cookie.split(';').next().unwrap()).await;
    assert!(text.contains("&lt;script&gt;alert(1)") && !text.contains(evil));
}

/// Who sees nothing is told why, and what to do.
#[tokio::test]
async fn empty_pages_say_what_to_do() {
    let site = site();
    let cookie = site.login(TOKEN).await.1.unwrap();
    let pair = cookie.split(';').next().unwrap();
    for (path, words) in [
        ("/", "holm gateway add NAME"),
        ("/deployments", "holm deploy --all"),
        ("/telemetry", "Nothing is recorded yet"),
        ("/telemetry?gateway=nobody", "There is no gateway"),
        ("/telemetry?device=nobody", "No record matches"),
    ] {
        let (_, text) = site.get(path, pair).await;
        assert!(text.contains(words), "{path}: {text}");
    }
}

/// Why an app failed stands beside it, once, also while its gateway says the same.
#[tokio::test]
async fn a_failed_app_tells_its_reason() {
    let site = site();
    let reason = "it trapped: wasm `unreachable` instruction executed";
    let said: Result<(), Failure> = store::write(&*site.store, |rows| {
        let gateway = rows.add_gateway("gw-a", 1)?;
        let app = AppRow {
            app: "cold-chain".into(),
            revision: Digest([2; 32]),
            phase: Phase::TakenBack,
            reason: reason.into(),
            running: Some(Digest([1; 32])),
            generation: 1,
            at_ms: 1,
        };
        rows.put_app(gateway, &app)?;
        let health = sync_protocol::wire::Health {
            degraded: vec![
                format!("cold-chain: revision 0202 failed: {reason}"),
                "the store is full".into(),
            ],
            ..sync_protocol::wire::Health::default()
        };
        Ok(rows.set_health(gateway, &health, 1)?)
    });
    said.unwrap();
    let cookie = site.login(TOKEN).await.1.unwrap();
    let (_, text) = site.get("/", cookie.split(';').next().unwrap()).await;
    assert_eq!(text.matches("it trapped").count(), 1, "{text}");
    assert!(text.contains("the store is full") && text.contains("taken-back"), "{text}");
    assert!(text.contains("1 gateway, 0 online"), "{text}");
}

/// What will never come is told, summed over the streams of its gateway.
#[tokio::test]
async fn losses_stand_beside_the_outbox() {
    let site = site();
    let said: Result<(), Failure> = store::write(&*site.store, |rows| {
        let gateway = rows.add_gateway("gw-a", 1)?;
        let full = Kind::Tombstone(DropReason::Full);
        let skipped = Kind::Tombstone(DropReason::Skipped);
        for (stream, first, seq, kind) in
            [(1, 1, 40, full), (2, 1, 2, full), (2, 3, 9, Kind::Gap), (2, 10, 99, skipped)]
        {
            let place = Place { first, seq, kind, epoch: 1, digest: Vec::new() };
            let (time, content) =
                (Stamp { unix_ms: 1, quality: Quality::Synced }, Content::Nothing);
            let entry = EntryRow { id: 0, place, time, corrected_ms: None, stored_ms: 1, content };
            rows.add_entry(gateway, stream, &entry)?;
        }
        Ok(())
    });
    said.unwrap();
    let cookie = site.login(TOKEN).await.1.unwrap();
    let (_, text) = site.get("/", cookie.split(';').next().unwrap()).await;
    assert!(text.contains("42 dropped: outbox full"), "{text}");
    assert!(text.contains("7 lost on the gateway") && !text.contains("skipped"), "{text}");
}
