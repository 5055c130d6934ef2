//! Gateways that are none: each is refused for its own reason, and hears nothing but the ClientHello.

use device_protocol::provision::Provision;
use device_sdk::tls::{Error, Refusal};
use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};

use crate::evil::{DATA, Heard, Step, message};
use crate::pki::{DAY, NAME, NOW, Pair, World, at, authority, gateway, self_signed};
use crate::support::{SAID, honest, meet, opened, provision};

/// The server is refused for that reason and has heard nothing.
fn refused(provision: &Provision<'_>, now: Option<u64>, script: &[Step], why: Refusal) {
    let (result, heard) = meet(provision, now, script);
    assert_eq!(result, Err(Error::Refused(why)), "{script:?}");
    assert_eq!(heard, Heard::default(), "nothing leaves the device: {script:?}");
}

/// A server with that leaf and its key, honest otherwise.
fn showing(leaf: &Pair, behind: &[&Pair]) -> Vec<Step> {
    let chain = [leaf].into_iter().chain(behind.iter().copied()).map(|pair| pair.der.clone());
    vec![
        Step::EncryptedExtensions,
        Step::Certificate(chain.collect()),
        Step::CertificateVerify(leaf.scalar()),
        Step::Finished,
    ]
}

#[test]
fn the_honest_server_is_believed() {
    let world = World::new();
    let device = provision(&world);
    let mut script = opened(&world);
    script.push(Step::Encrypted(DATA, b"welcome".to_vec()));
    script.push(Step::Encrypted(21, vec![1, 0]));
    let (result, heard) = meet(&device, Some(NOW), &script);
    assert_eq!((result, heard.data.as_slice()), (Ok(b"welcome".to_vec()), SAID));
    // A certificate of the CA behind the leaf, as many servers send it, changes nothing.
    let (result, heard) = meet(
        &device,
        Some(NOW),
        &[
            showing(&world.gateway, &[&world.gateway_ca]),
            vec![Step::Open, Step::Encrypted(21, vec![1, 0])],
        ]
        .concat(),
    );
    assert_eq!((result, heard.data.as_slice()), (Ok(Vec::new()), SAID));
}

/// Attack 1: whoever is in the middle leaves the proof out.
#[test]
fn a_server_without_proof_hears_nothing() {
    let world = World::new();
    let (device, honest) = (provision(&world), honest(&world));
    let without = |left_out: &[usize]| {
        let keep = |(at, step): (usize, &Step)| (!left_out.contains(&at)).then(|| step.clone());
        honest.iter().enumerate().filter_map(keep).collect::<Vec<_>>()
    };
    refused(&device, Some(NOW), &without(&[1, 2, 3]), Refusal::NoProof);
    refused(&device, Some(NOW), &without(&[2, 3]), Refusal::NoProof);
    refused(&device, Some(NOW), &without(&[3]), Refusal::NoProof);
    let empty = [Step::EncryptedExtensions, Step::Certificate(Vec::new()), Step::Finished];
    refused(&device, Some(NOW), &empty, Refusal::NoProof);
}

#[test]
fn messages_come_once_and_in_order() {
    let world = World::new();
    let device = provision(&world);
    let certificate = Step::Certificate(vec![world.gateway.der.clone()]);
    let verify = Step::CertificateVerify(world.gateway.scalar());
    let run = |steps: &[&Step]| {
        let mut script = vec![Step::EncryptedExtensions];
        script.extend(steps.iter().map(|step| (*step).clone()));
        script.push(Step::Finished);
        refused(&device, Some(NOW), &script, Refusal::Order);
    };
    run(&[&verify]);
    run(&[&verify, &certificate]);
    run(&[&certificate, &certificate, &verify]);
    run(&[&certificate, &verify, &verify]);
    run(&[&certificate, &verify, &certificate, &verify]);
}

/// Attack 2: a device's certificate signs one for the gateway's name; also where one CA signs both.
#[test]
fn a_device_is_no_ca() {
    let world = World::new();
    let device = provision(&world);
    let one_ca = world.gateway_ca.sign(crate::pki::device("press-8"));
    for signer in [&world.device, &one_ca] {
        let leaf = signer.sign(gateway());
        refused(&device, Some(NOW), &showing(&leaf, &[signer]), Refusal::Issuer);
        refused(&device, Some(NOW), &showing(&leaf, &[signer, &world.gateway_ca]), Refusal::Issuer);
        refused(
            &device,
            Some(NOW),
            &showing(signer, &[]),
            if signer.der == world.device.der { Refusal::Issuer } else { Refusal::Usage },
        );
    }
}

#[test]
fn foreign_and_self_signed_certificates_are_refused() {
    let world = World::new();
    let device = provision(&world);
    let (foreign, namesake) = (authority("strangers"), authority("gateways of test"));
    for ca in [&foreign, &namesake, &world.device_ca] {
        let leaf = ca.sign(gateway());
        refused(&device, Some(NOW), &showing(&leaf, &[ca]), Refusal::Issuer);
    }
    refused(&device, Some(NOW), &showing(&self_signed(gateway()), &[]), Refusal::Issuer);
    refused(&device, Some(NOW), &showing(&world.gateway_ca, &[]), Refusal::IsCa);
}

#[test]
fn the_name_must_be_the_provisioned_one() {
    let world = World::new();
    let mut leaf = gateway();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, NAME);
    leaf.subject_alt_names = vec![
        SanType::DnsName("*.local".try_into().expect("a name")),
        SanType::DnsName("barn-3.local.evil".try_into().expect("a name")),
    ];
    let leaf = world.gateway_ca.sign(leaf);
    refused(&provision(&world), Some(NOW), &showing(&leaf, &[]), Refusal::Name);
    for (name, expected) in
        [("127.0.0.1", true), ("127.0.0.2", false), ("BARN-3.local", true), ("::1", false)]
    {
        let device = Provision { server_name: name, ..provision(&world) };
        let (result, _) = meet(
            &device,
            Some(NOW),
            &[opened(&world), vec![Step::Encrypted(21, vec![1, 0])]].concat(),
        );
        let wanted = if expected { Ok(Vec::new()) } else { Err(Error::Refused(Refusal::Name)) };
        assert_eq!(result, wanted, "{name}");
    }
}

#[test]
fn time_is_the_clocks_or_the_provisionings() {
    let world = World::new();
    let device = |issued_unix_s| Provision { issued_unix_s, ..provision(&world) };
    let script = honest(&world);
    refused(&device(0), Some(NOW + 2 * DAY), &script, Refusal::Expired);
    refused(&device(0), Some(NOW - 2 * DAY), &script, Refusal::NotYetValid);
    // A clock that was set back below the provisioning does not revive anything.
    refused(&device(NOW + 2 * DAY), Some(NOW), &script, Refusal::Expired);
    refused(&device(NOW + 2 * DAY), None, &script, Refusal::Expired);
    // Without a clock it may have begun since; the ends of the window belong to it.
    let opened = [opened(&world), vec![Step::Encrypted(21, vec![1, 0])]].concat();
    for (issued, now) in
        [(NOW - 2 * DAY, None), (NOW, None), (0, Some(NOW + DAY)), (0, Some(NOW - DAY))]
    {
        assert_eq!(meet(&device(issued), now, &opened).0, Ok(Vec::new()), "{issued} {now:?}");
    }
}

#[test]
fn the_certificate_must_be_for_servers() {
    let world = World::new();
    let device = provision(&world);
    let changed = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = gateway();
        change(&mut params);
        world.gateway_ca.sign(params)
    };
    for (leaf, why) in [
        (changed(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), Refusal::IsCa),
        (
            changed(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            Refusal::Usage,
        ),
        (changed(&|p| p.extended_key_usages = vec![]), Refusal::Usage),
        (changed(&|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]), Refusal::Usage),
        (changed(&|p| p.subject_alt_names = vec![]), Refusal::Name),
        (
            changed(&|p| {
                let mut unknown =
                    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
                unknown.set_criticality(true);
                p.custom_extensions = vec![unknown];
            }),
            Refusal::Extension,
        ),
        (
            changed(&|p| (p.not_before, p.not_after) = (at(NOW - 9 * DAY), at(NOW - 8 * DAY))),
            Refusal::Expired,
        ),
    ] {
        refused(&device, Some(NOW), &showing(&leaf, &[]), why);
    }
}

#[test]
fn the_server_must_hold_the_key() {
    let world = World::new();
    let device = provision(&world);
    let script = |verify: Step| {
        let certificate = Step::Certificate(vec![world.gateway.der.clone()]);
        vec![Step::EncryptedExtensions, certificate, verify, Step::Finished]
    };
    let by_other_key = Step::CertificateVerify(world.device.scalar());
    refused(&device, Some(NOW), &script(by_other_key), Refusal::Signature);
    for body in [&[4, 3, 0, 0][..], &[4, 3, 0, 4, 1, 2, 3, 4]] {
        refused(&device, Some(NOW), &script(Step::Message(message(15, body))), Refusal::Signature);
    }
    let by_ed25519 = Step::Message(message(15, &[8, 7, 0, 1, 0]));
    refused(&device, Some(NOW), &script(by_ed25519), Refusal::Algorithm);
}

#[test]
fn certificates_that_are_none_are_refused() {
    let world = World::new();
    let device = provision(&world);
    let broken = &world.gateway.der[..world.gateway.der.len() - 1];
    for der in [&b"nonsense"[..], &[], &[0x30, 0x80], broken] {
        let script =
            [Step::EncryptedExtensions, Step::Certificate(vec![der.to_vec()]), Step::Finished];
        refused(&device, Some(NOW), &script, Refusal::Certificate);
    }
}
