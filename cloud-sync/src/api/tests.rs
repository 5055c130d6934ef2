//! The document of the API and its routes say the same.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::clock::Clock;
use crate::identity::Authority;
use crate::mqtt::test_hub_handle;
use crate::store::sqlite::SqliteStore;

fn parts(folder: &std::path::Path) -> ApiParts {
    let store = Arc::new(SqliteStore::open(&folder.join("cloud.db")).unwrap());
    let office = Office {
        ca: Authority::for_tests(folder),
        endpoint: "localhost:8883".into(),
        instance: InstanceId([1; 16]),
    };
    ApiParts {
        desk: Desk { store, clock: Clock::system() },
        blobs: Arc::new(Blobs::open(&folder.join("blobs")).unwrap()),
        office: Arc::new(office),
        live: Arc::default(),
        commands: Arc::default(),
        logs: Arc::default(),
        hub: test_hub_handle(),
        store_failures: Arc::default(),
    }
}

#[test]
fn every_route_is_documented_and_every_documented_route_is_there() {
    let temp = tempfile::tempdir().unwrap();
    let parts = parts(temp.path());
    let routes = open(&parts).merge(guarded(&parts));
    let served: BTreeSet<(String, String)> =
        routes.list.iter().map(|(method, path)| (path.to_string(), method.to_string())).collect();
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut documented = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            documented.insert((path.clone(), method.clone()));
        }
    }
    assert_eq!(served, documented);
}

#[test]
fn references_in_the_document_lead_somewhere() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut open = vec![&document];
    let mut seen = 0;
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref") {
                    let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                    seen += 1;
                }
                open.extend(fields.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    assert!(seen > 20);
}
