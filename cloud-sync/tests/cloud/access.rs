//! Who gets in, what is refused, and how the process stops.

use std::process::Command;
use std::sync::Arc;

use cloud_sync::{Config, Plaintext, ServeError};
use serde_json::json;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::harness::{Cloud, any, call};

#[tokio::test]
async fn the_api_needs_the_operators_token() {
    let cloud = Cloud::start().await;
    let url = |path: &str| format!("http://{}{path}", cloud.http);
    for path in ["/v1/gateways", "/v1/telemetry", "/v1/deployments/1", "/v1/authors"] {
        let (status, reply) = call("GET", url(path), None, Vec::new()).await;
        assert_eq!(status, 401, "{path}");
        assert_ne!(reply["hint"], "");
        let (status, _) = call("GET", url(path), Some("holm-op-wrong"), Vec::new()).await;
        assert_eq!(status, 401, "{path}");
    }
    let (status, health) = call("GET", url("/v1/health"), None, Vec::new()).await;
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    let (status, document) = call("GET", url("/v1/openapi.json"), None, Vec::new()).await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let cloud = Cloud::start().await;
    let refused = async |method: &str, path: &str, body: &str, status: u16| {
        let (got, reply) = cloud.call(method, path, body.as_bytes().to_vec()).await;
        assert_eq!(got, status, "{method} {path}: {reply}");
        assert!(reply["error"].is_string() && reply["hint"].is_string(), "{path}: {reply}");
    };
    refused("POST", "/v1/gateways", "{", 400).await;
    refused("POST", "/v1/gateways", r#"{"name": "UPPER"}"#, 400).await;
    refused("POST", "/v1/gateways", r#"{"name": "a", "color": "red"}"#, 400).await;
    refused("POST", "/v1/gateways", &"x".repeat(300_000), 413).await;
    refused("GET", "/v1/gateways?limit=many", "", 400).await;
    refused("GET", "/v1/gateways?colour=red", "", 400).await;
    refused("GET", "/v1/gateways/nobody", "", 404).await;
    refused("GET", "/v1/gateways/nobody/streams/1/records", "", 404).await;
    refused("GET", "/v1/revisions/xyz", "", 400).await;
    refused("GET", "/v1/deployments/7", "", 404).await;
    refused("POST", "/v1/deployments", r#"{"revision": "00"}"#, 400).await;
    refused("POST", "/v1/apps/none/rollback", "", 404).await;
    refused("DELETE", "/v1/alarms/1", "", 404).await;
    refused("GET", "/v1/nothing", "", 404).await;
    refused("PUT", "/v1/gateways", "", 405).await;
}

#[tokio::test]
async fn https_is_what_the_ca_vouches_for() {
    let cloud = Cloud::start().await;
    let dir = tempfile::tempdir().unwrap();
    let options = cloud_sync::InitOptions {
        names: Vec::new(),
        endpoint: None,
        author_key: dir.path().join("author.pem"),
        author: "me".into(),
        operator: "admin".into(),
    };
    let clouds = dir.path().join("cloud");
    let report = cloud_sync::init(&clouds, &options, cloud_sync::Clock::system().now_ms()).unwrap();
    let config = Config { http: Some(any()), mqtt: Some(any()), ..Config::new(&clouds) };
    let running = cloud_sync::start(config).await.unwrap();
    let port = running.http_addr().port();
    let ask = async |ca: std::path::PathBuf| {
        let pem = std::fs::read(ca).unwrap();
        tokio::task::spawn_blocking(move || {
            let roots = vec![Certificate::from_pem(&pem).unwrap()];
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::Specific(Arc::new(roots)))
                .unversioned_rustls_crypto_provider(Arc::new(
                    rustls::crypto::ring::default_provider(),
                ))
                .build();
            let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
            agent.get(format!("https://localhost:{port}/v1/health")).call().is_ok()
        })
        .await
        .unwrap()
    };
    assert!(ask(report.gateway_ca).await, "its own CA");
    assert!(!ask(cloud.report.gateway_ca.clone()).await, "another CA");
    running.stop().await;
}

#[tokio::test]
async fn one_process_for_one_directory_and_no_plaintext_for_all_to_see() {
    let cloud = Cloud::start().await;
    let config = Config { http: Some(any()), mqtt: Some(any()), ..Config::new(cloud.dir()) };
    let second = cloud_sync::start(config).await.err();
    assert!(matches!(second, Some(ServeError::InUse(_))), "{second:?}");

    let dir = tempfile::tempdir().unwrap();
    let nothing = cloud_sync::start(Config::new(dir.path())).await.err();
    assert!(nothing.unwrap().to_string().contains("holm cloud init"));
    drop(cloud);

    let cloud = Cloud::start().await;
    let exposed = Config {
        http: Some(([0, 0, 0, 0], 0).into()),
        mqtt: Some(any()),
        http_plaintext: Plaintext::OnLoopback,
        ..Config::new(copy_of(&cloud))
    };
    let refused = cloud_sync::start(exposed).await.err();
    assert!(matches!(refused, Some(ServeError::Exposed(_))), "{refused:?}");
}

fn copy_of(cloud: &Cloud) -> std::path::PathBuf {
    let to = cloud.dir().with_file_name("copy");
    let copied = Command::new("cp").arg("-r").arg(cloud.dir()).arg(&to).status().unwrap();
    assert!(copied.success());
    to
}

#[test]
fn sigterm_ends_the_process_well() {
    let mut cloud = Cloud::spawn();
    assert!(cloud.terminate());
}
