//! Wrong clocks: what the gateway promises when it boots in 1970, when its clock jumps by years, and
//! when its certificate expired while it was away. The clock is that of a planted agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use edge_broker::codec::{Packet, PacketId, Publish};
use edge_core::message::QoS;
use edge_core::topic::Topic;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use system_tests::cloud::Cloud;
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::wall_ms;
use system_tests::mqtt::{Client, Login};
use system_tests::process::wait_for;

use crate::support::{
    PATIENCE, author, bundle, managed_gateway_with, planted_agent, publish, wait_drained, wait_live,
};

const YEAR_MS: i64 = 365 * 86_400_000;
/// A corrected time may be off by a message's way and the time the processes wait for each other.
const ERROR_MS_MAX: u64 = 15_000;

/// The clock of a planted agent.
struct PlantedClock(PathBuf);

impl PlantedClock {
    fn new(dir: &Path) -> Result<Self> {
        let clock = Self(dir.join("clock"));
        clock.set("0")?;
        Ok(clock)
    }

    /// `ERROR_MS [DISCIPLINED]`, in one piece: the agent reads it at any moment.
    fn set(&self, text: &str) -> Result<()> {
        let next = self.0.with_extension("next");
        std::fs::write(&next, text)?;
        Ok(std::fs::rename(next, &self.0)?)
    }

    /// As on a machine without a battery, that boots now.
    fn set_1970(&self) -> Result<()> {
        self.set(&format!("-{}", wall_ms()))
    }

    fn plant(&self) -> String {
        format!("clock:{}", self.0.display())
    }
}

/// A gateway with a planted clock, its control plane, and the app `counter`.
fn managed(dir: &Path, name: &str, agent: String) -> Result<(Cloud, Gateway, PlantedClock)> {
    let clock = PlantedClock::new(dir)?;
    let setup = Setup { agent, plant: Some(clock.plant()), ..Setup::open(name) };
    let (cloud, gateway) = managed_gateway_with(dir, &setup)?;
    Ok((cloud, gateway, clock))
}

/// What the counter recorded, of this process run.
fn counts(cloud: &Cloud, gateway: &Gateway, epoch: &Value) -> Result<Vec<Value>> {
    let mut rows = cloud.stream(gateway.name(), 1)?;
    rows.retain(|row| row["kind"] == "telemetry" && row["epoch"] == *epoch);
    Ok(rows)
}

/// Records written in 1970, before anybody knew better.
fn assert_corrected(rows: &[Value], since_ms: u64) {
    for row in rows {
        let label_ms = row["label_ms"].as_u64().expect("a number");
        let time_ms = row["time_ms"].as_u64().expect("a number");
        assert!(label_ms < 3_600_000, "the label is of 1970: {row}");
        assert_eq!(row["synced"], true, "{row}");
        let until_ms = wall_ms() + ERROR_MS_MAX;
        assert!((since_ms - ERROR_MS_MAX..until_ms).contains(&time_ms), "{since_ms}: {row}");
    }
}

/// "Boot at 1970 removes modules": not here. The app stays, devices are served, TLS to the control
/// plane works, and what was written in 1970 has its right time once that is known - also what a
/// process wrote that died before.
#[test]
fn a_boot_in_1970_removes_nothing_and_its_stamps_are_corrected() -> Result<()> {
    let Some(agent) = planted_agent() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let (cloud, mut gateway, clock) = managed(dir.path(), "dawn", agent)?;
    publish(&gateway, 1, 3)?;
    wait_drained(&gateway)?;
    let running = gateway.status()?["deployments"]["apps"][0]["running"].clone();
    gateway.stop()?;

    cloud.link.cut();
    clock.set_1970()?;
    let since_ms = wall_ms();
    let mut epochs = Vec::new();
    for boot in [2, 3] {
        gateway.start()?;
        wait_live(&gateway, "counter")?;
        publish(&gateway, boot, 5)?;
        gateway.wait_idle(PATIENCE)?;
        let status = gateway.status()?;
        assert_eq!(status["clock"]["synced"], false);
        epochs.push(status["epoch"].clone());
        if boot == 2 {
            gateway.kill()?;
        }
    }
    cloud.link.mend();
    wait_drained(&gateway)?;
    let status = gateway.status()?;
    assert_eq!(status["clock"]["synced"], true, "the control plane said what time it is");
    assert_eq!(status["deployments"]["apps"][0]["running"], running, "nothing was removed");
    for epoch in &epochs {
        let rows = counts(&cloud, &gateway, epoch)?;
        assert_eq!(rows.len(), 5, "{rows:?}");
        assert_corrected(&rows, since_ms);
    }
    // From now on labels are right by themselves, though the system's clock is not.
    publish(&gateway, 4, 2)?;
    wait_drained(&gateway)?;
    let rows = counts(&cloud, &gateway, &epochs[1])?;
    for row in &rows[5..] {
        assert_eq!((row["synced"].clone(), &row["label_ms"]), (true.into(), &row["time_ms"]));
    }
    assert_eq!(rows.len(), 7);
    gateway.stop()
}

/// Publishes to the app `patient`; it is acked when this returns.
fn ask_for_a_retry(client: &mut Client) -> Result<()> {
    client.queue(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: Topic::new("patient/press")?,
        packet_id: PacketId::new(1),
        expiry_s: None,
        subscription_ids: Vec::new(),
        properties: Default::default(),
        payload: Bytes::from_static(b"retry"),
    }));
    client.flush()?;
    match client.next(PATIENCE)? {
        Some(Packet::PubAck(_)) => Ok(()),
        other => panic!("not a PUBACK: {other:?}"),
    }
}

/// How often a schedule of one second has fired.
fn ticked(gateway: &Gateway) -> Result<u64> {
    let state = gateway.ask(&["state", "ticker/counter"])?;
    Ok(state[0]["value"]["text"].as_str().unwrap_or("0").parse()?)
}

/// The clock jumps by years, both ways, while devices, retries and schedules are at work.
#[test]
fn jumps_by_years_hurry_nothing_and_drop_nobody() -> Result<()> {
    let Some(agent) = planted_agent() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let clock = PlantedClock::new(dir.path())?;
    clock.set("0 1")?;
    let setup = Setup {
        agent,
        plant: Some(clock.plant()),
        author_keys: vec![author().key()?],
        ..Setup::open("jumpy")
    };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    gateway.deploy(&bundle("ticker"))?;
    gateway.deploy(&bundle("patient"))?;
    assert_eq!(gateway.status()?["clock"]["synced"], true, "its time daemon says so");
    let mut session = Client::connect(&Login::anonymous(gateway.address(), "stays"))?;
    // Its retry is due in an hour; its age is counted by the wall clock.
    ask_for_a_retry(&mut session)?;
    wait_for(PATIENCE, "the first attempt to be over", || {
        Ok((gateway.status()?["core"]["counters"]["retries"] == 1).then_some(()))
    })?;
    let (before, began) = (ticked(&gateway)?, std::time::Instant::now());
    for jump in [5 * YEAR_MS, -20 * YEAR_MS, 0] {
        clock.set(&format!("{jump} 1"))?;
        let from = ticked(&gateway)?;
        wait_for(PATIENCE, "the schedule to go on", || {
            Ok(Some(ticked(&gateway)?).filter(|count| *count >= from + 2))
        })?;
        let status = gateway.status()?;
        assert_eq!(status["core"]["counters"]["retries"], 1, "nothing was tried early");
        assert_eq!(gateway.ask(&["dead-letters"])?, Value::Array(Vec::new()), "nothing expired");
    }
    let ticks = ticked(&gateway)? - before;
    let seconds = began.elapsed().as_secs();
    assert!(ticks <= seconds + 2, "{ticks} events in {seconds} s: a burst");
    session.queue(&Packet::PingReq);
    session.flush().context("the session was dropped")?;
    let answer = session.next(PATIENCE).context("the session was dropped")?;
    assert!(matches!(answer, Some(Packet::PingResp)), "{answer:?}");
    let status = gateway.status()?;
    assert_eq!(status["clock"]["synced"], true);
    let waits = status["core"]["functions"].as_array().into_iter().flatten();
    let waits = waits.filter(|row| row["function"] == "patient/counter");
    let jobs: Vec<_> = waits.map(|row| row["jobs"].clone()).collect();
    assert_eq!(jobs, [Value::from(1)], "it waits for its retry still: {status}");
    gateway.stop()
}

/// The identity file of a gateway, as the agent writes it.
#[derive(Serialize, Deserialize)]
struct IdentityFile {
    gateway: String,
    key: Vec<u8>,
    enrolled: sync_protocol::enroll::Enrolled,
    enrolment: sync_protocol::Digest,
}

/// Gives the gateway a certificate for its key that ended weeks ago.
fn expire(cloud_dir: &Path, gateway: &Gateway) -> Result<Vec<u8>> {
    let path = gateway.data_dir().join("identity");
    let mut identity: IdentityFile = postcard::from_bytes(&std::fs::read(&path)?)?;
    let read = |file: &str| std::fs::read_to_string(cloud_dir.join("tls").join(file));
    let ca = CertificateDer::from_pem_slice(read("gateway-ca.pem")?.as_bytes())?;
    let issuer = Issuer::from_ca_cert_der(&ca, KeyPair::from_pem(&read("gateway-ca.key")?)?)?;
    let own = &identity.enrolled.certificate;
    let serial = x509_parser::parse_x509_certificate(own)?.1.raw_serial().to_vec();
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial.into());
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::CommonName, gateway.name());
    params.not_before = date_time_ymd(2025, 1, 1);
    let expired = Duration::from_millis(wall_ms()) - Duration::from_secs(26 * 86_400);
    params.not_after = date_time_ymd(1970, 1, 1) + expired;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::try_from(identity.key.clone())?;
    identity.enrolled.certificate = params.signed_by(&key, &issuer)?.der().to_vec();
    std::fs::write(&path, postcard::to_stdvec(&identity)?)?;
    Ok(identity.enrolled.certificate)
}

/// "Dies after 25 days offline": not here. Its certificate ended meanwhile and its clock stands in
/// 1970; it comes back by itself, and with a new certificate.
#[test]
fn weeks_offline_and_an_expired_certificate_need_nobody_to_go_there() -> Result<()> {
    let Some(agent) = planted_agent() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let (cloud, mut gateway, clock) = managed(dir.path(), "island", agent)?;
    gateway.stop()?;
    let old = expire(&dir.path().join("cloud"), &gateway)?;
    clock.set_1970()?;
    cloud.link.cut();
    gateway.start()?;
    publish(&gateway, 1, 5)?;
    cloud.link.mend();
    wait_drained(&gateway)?;
    let renewed = wait_for(PATIENCE, "a new certificate", || {
        let bytes = std::fs::read(gateway.data_dir().join("identity"))?;
        let identity: IdentityFile = postcard::from_bytes(&bytes)?;
        Ok(Some(identity.enrolled.certificate).filter(|certificate| *certificate != old))
    })?;
    // The new one is shown, by this process and the next one.
    for _ in 0..2 {
        cloud.link.cut();
        cloud.link.mend();
        publish(&gateway, 2, 1)?;
        wait_drained(&gateway)?;
        gateway.stop()?;
        gateway.start()?;
    }
    let bytes = std::fs::read(gateway.data_dir().join("identity"))?;
    let identity: IdentityFile = postcard::from_bytes(&bytes)?;
    assert_eq!(identity.enrolled.certificate, renewed, "one renewal is enough");
    gateway.stop()
}
