//! From a bundle to a gateway's report.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sync_protocol::manifest::{FORMAT, Manifest};
use sync_protocol::record::Phase;
use sync_protocol::revision::AuthorKeys;
use sync_protocol::wire::{AppState, ChunkRequest, Desired, Down, StateReport, Up};
use sync_protocol::{Bundle, Digest, SignedManifest, SigningKey};

use crate::gateway::{Gateway, connect, enrol};
use crate::harness::Cloud;

/// An artifact of several chunks whose bytes differ by `seed`.
fn artifact(seed: u64) -> Vec<u8> {
    (0..150_000_u64).map(|n| u8::try_from((n * 7 + seed * 13) % 251).unwrap()).collect()
}

fn bundle(key: &SigningKey, sequence: u64) -> (Vec<u8>, Digest) {
    let wasm = artifact(sequence);
    let function = json!({"artifact": Digest::of(&wasm), "size": wasm.len()});
    let manifest = Manifest {
        format: FORMAT,
        app: "cold-chain".into(),
        version: format!("{sequence}.0.0"),
        sequence,
        floor: 0,
        functions: [("smooth".to_owned(), serde_json::from_value(function).unwrap())].into(),
        triggers: BTreeMap::new(),
        records: BTreeMap::new(),
        firmware: BTreeMap::new(),
        agent: None,
        system: None,
    };
    let signed = SignedManifest::sign(&manifest, key).unwrap();
    let artifacts = [(Digest::of(&wasm), wasm)].into();
    (Bundle::write(&signed, &artifacts).unwrap(), signed.digest())
}

async fn upload(cloud: &Cloud, file: Vec<u8>) -> (u16, Value) {
    cloud.call("POST", "/v1/revisions", file).await
}

async fn deploy(cloud: &Cloud, revision: Digest) -> u64 {
    let (status, reply) = cloud.post("/v1/deployments", json!({"revision": revision})).await;
    assert_eq!(status, 201, "{reply}");
    reply["id"].as_u64().unwrap()
}

async fn desired(gateway: &mut Gateway) -> Desired {
    loop {
        match gateway.next().await {
            Some(Down::Desired(desired)) => return desired,
            Some(_) => {}
            None => panic!("the connection is gone"),
        }
    }
}

/// Fetches all bytes of a digest in chunks.
async fn fetch(gateway: &mut Gateway, digest: Digest) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    loop {
        let request = ChunkRequest { digest, offset: bytes.len() as u64, len: 65_536 };
        gateway.say(&Up::ChunkRequest(request)).await;
        match gateway.next().await {
            Some(Down::Chunk(chunk)) => {
                assert_eq!((chunk.digest, chunk.offset), (digest, bytes.len() as u64));
                assert!(!chunk.bytes.is_empty());
                bytes.extend(chunk.bytes);
                if bytes.len() as u64 == chunk.total {
                    return Ok(bytes);
                }
            }
            Some(Down::ChunkRefused(refused)) => return Err(refused.reason),
            other => panic!("{other:?}"),
        }
    }
}

async fn progress(cloud: &Cloud, deployment: u64) -> Value {
    let (_, reply) = cloud.get(&format!("/v1/deployments/{deployment}")).await;
    reply["progress"][0].clone()
}

async fn report(cloud: &Cloud, gateway: &Gateway, generation: u64, state: AppState) {
    let instance = Some(cloud.report.settings.instance);
    gateway.say(&Up::StateReport(StateReport { instance, generation, apps: vec![state] })).await;
}

/// Waits for a progress, which comes a moment after the report was sent.
async fn reaches(cloud: &Cloud, deployment: u64, wanted: &str) -> Value {
    loop {
        let progress = progress(cloud, deployment).await;
        if progress["progress"] == wanted {
            return progress;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_revision_reaches_a_gateway_and_its_state_comes_back() {
    let cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let mut gateway = connect(&cloud, &identity).await;
    gateway.hello(7, 1, 0).await;
    let (file, revision) = bundle(&cloud.author(), 1);
    let (status, reply) = upload(&cloud, file.clone()).await;
    assert_eq!((status, &reply["app"]), (201, &json!("cold-chain")));
    assert_eq!(upload(&cloud, file).await.0, 200, "it is known");

    let id = deploy(&cloud, revision).await;
    let told = desired(&mut gateway).await;
    assert_eq!((told.generation, told.apps[0].revision), (id, revision));
    assert_eq!(progress(&cloud, id).await["progress"], "pending");

    let signed = SignedManifest::from_bytes(&fetch(&mut gateway, revision).await.unwrap());
    let authors: AuthorKeys = identity.enrolled.author_keys.iter().copied().collect();
    let verified = signed.unwrap().verify_as(revision, &authors).unwrap();
    let wasm = verified.manifest().functions["smooth"].artifact;
    let bytes = fetch(&mut gateway, wasm).await.unwrap();
    verified.check_artifact(wasm, &bytes).unwrap();
    let foreign = fetch(&mut gateway, Digest::of(b"other")).await.unwrap_err();
    assert!(foreign.contains("does not name it"), "{foreign}");

    let state = |phase, reason: &str| AppState {
        app: "cold-chain".into(),
        revision,
        phase,
        reason: reason.into(),
        running: None,
    };
    report(&cloud, &gateway, id, state(Phase::Probation, "")).await;
    reaches(&cloud, id, "probation").await;
    report(&cloud, &gateway, id, state(Phase::TakenBack, "smooth: trap: unreachable")).await;
    let failed = reaches(&cloud, id, "taken-back").await;
    assert_eq!(failed["reason"], "smooth: trap: unreachable");
    let (_, history) = cloud.get("/v1/gateways/gw-a/history").await;
    assert_eq!(history["rows"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn desired_state_is_stated_on_change_and_on_hello() {
    let mut cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let [(one, first), (two, second)] = [1, 2].map(|n| bundle(&cloud.author(), n));
    upload(&cloud, one).await;
    upload(&cloud, two).await;
    deploy(&cloud, first).await;
    let mut gateway = connect(&cloud, &identity).await;
    let (_, told) = gateway.hello(7, 1, 0).await;
    assert_eq!(told.apps[0].revision, first, "it was away when it was deployed");
    deploy(&cloud, second).await;
    assert_eq!(desired(&mut gateway).await.apps[0].revision, second);
    let old = fetch(&mut gateway, first).await;
    assert!(old.is_err(), "only what is desired now is served");

    let (status, back) = cloud.post("/v1/apps/cold-chain/rollback", json!({})).await;
    assert_eq!((status, &back["cause"]), (201, &json!("rollback")));
    assert_eq!(desired(&mut gateway).await.apps[0].revision, first);
    let (status, gone) = cloud.post("/v1/apps/cold-chain/undeploy", json!({})).await;
    assert_eq!((status, &gone["revision"]), (201, &Value::Null));
    let told = desired(&mut gateway).await;
    assert_eq!((told.generation, told.apps.len()), (gone["id"].as_u64().unwrap(), 0));

    cloud.restart().await;
    let mut gateway = connect(&cloud, &identity).await;
    assert_eq!(gateway.hello(7, 1, 0).await.1, told, "it survives a restart");
}

#[tokio::test]
async fn bad_bundles_are_refused_with_the_reason() {
    let cloud = Cloud::start().await;
    let (file, _) = bundle(&cloud.author(), 1);
    let refused = async |file: Vec<u8>, words: &str| {
        let (status, reply) = upload(&cloud, file).await;
        let error = reply["error"].as_str().unwrap();
        assert!(status == 400 && error.contains(words), "{status} {reply}");
        assert_ne!(reply["hint"], "");
    };
    refused(b"not a bundle".to_vec(), "not a bundle").await;
    refused(file[..file.len() - 1].to_vec(), "truncated").await;
    refused([&file[..], b"x"].concat(), "after its end").await;
    let mut tampered = file.clone();
    *tampered.last_mut().unwrap() ^= 1;
    refused(tampered, "the artifact has digest").await;
    let mut forged = file.clone();
    let at = file.windows(7).position(|w| w == b"\"1.0.0\"").unwrap();
    forged[at + 1] = b'9';
    refused(forged, "does not fit the manifest").await;
    let (unknown, _) = bundle(&SigningKey::generate().unwrap(), 1);
    refused(unknown, "not among the 1 author keys").await;
    let (_, revisions) = cloud.get("/v1/revisions").await;
    assert_eq!(revisions["rows"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_registered_author_is_accepted() {
    let cloud = Cloud::start().await;
    let key = SigningKey::generate().unwrap();
    let body = json!({"key": key.public(), "name": "colleague"});
    let (status, reply) = cloud.post("/v1/authors", body).await;
    assert_eq!((status, &reply["id"]), (201, &json!(key.public().id())));
    assert_eq!(upload(&cloud, bundle(&key, 1).0).await.0, 201);
    let (_, authors) = cloud.get("/v1/authors").await;
    assert_eq!(authors["rows"].as_array().unwrap().len(), 2);
    let bad = cloud.post("/v1/authors", json!({"key": "rsa:x", "name": "n"})).await;
    assert_eq!(bad.0, 400);
}
