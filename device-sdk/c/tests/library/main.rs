//! The library as C has it: programs in C, compiled with sanitizers, linked to the host's build of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test says no")]

mod broker;
mod layout;
mod manual;
#[allow(dead_code, reason = "shared with the tests of the client in Rust, which use all of it")]
#[path = "../../../tests/tls/pki.rs"]
mod pki;
mod support;

use std::process::Command;

use device_protocol::provision::{Credential, Gateway, IMAGE_BYTES, Provision, encode_image};

use support::Programs;

fn passes(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{errors}", output.status);
    text
}

#[test]
fn wrong_arguments_are_errors_and_nothing_else() {
    let programs = Programs::new();
    let mut gateways = heapless::Vec::new();
    gateways.push(Gateway { host: "barn.local", port: 1883 }).unwrap();
    let provision = Provision {
        device: "press-7",
        issued_unix_s: 1_795_737_600,
        gateways,
        server_name: "barn.local",
        credential: Credential::Plain { token: "a token" },
        author_key: None,
    };
    let mut image = [0; IMAGE_BYTES];
    encode_image(&provision, 1, &mut image).unwrap();
    let path = programs.dir().join("press-7.provision");
    std::fs::write(&path, image).unwrap();
    passes(Command::new(programs.linked("arguments")).arg(path));
}

#[test]
fn postcard_writes_and_reads_the_vectors_of_the_protocol() {
    let programs = Programs::new();
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/vectors.txt");
    passes(Command::new(programs.linked("postcard")).arg(vectors));
}
