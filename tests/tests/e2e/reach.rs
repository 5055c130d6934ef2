//! Ways to the control plane: through a proxy, over IPv6.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use system_tests::author::{Author, fixture};
use system_tests::cloud::Cloud;
use system_tests::device::{self, Plan};
use system_tests::gateway::{Gateway, Setup};
use system_tests::ledger::Ledger;
use system_tests::mqtt::Login;
use system_tests::process::wait_for;
use system_tests::proxy::{Proxy, Rules};
use system_tests::readings;

use crate::support::{PATIENCE, publish, wait_drained, wait_live};

/// A name that nobody but the proxy knows.
const HOST: &str = "cloud.invalid";
const PASSWORD: &str = "p@ss:w/rd-7";
/// `barn:` and the password, in base64, and as it stands in an address.
const LOGIN: &str = "YmFybjpwQHNzOncvcmQtNw==";
const IN_ADDRESS: &str = "barn:p%40ss%3Aw%2Frd-7";

fn set_proxy(gateway: &Gateway, line: &str) -> Result<()> {
    let text = std::fs::read_to_string(gateway.config())?;
    let (head, rest) = text.split_once("[uplink]\n").context("no section")?;
    let (_, rest) = rest.split_once('\n').context("no line in it")?;
    Ok(std::fs::write(gateway.config(), format!("{head}[uplink]\n{line}\n{rest}"))?)
}

/// Waits until the gateway says why it has no control plane, in these words.
fn wait_told(gateway: &Gateway, words: &str) -> Result<String> {
    wait_for(PATIENCE, &format!("the words {words:?}"), || {
        let degraded = gateway.status()?["degraded"].to_string();
        Ok(degraded.contains(words).then_some(degraded))
    })
}

fn finding(gateway: &Gateway, check: &str) -> Result<(String, String)> {
    let report = gateway.agent(&["doctor", "--json"])?.output()?;
    let report: Value = serde_json::from_slice(&report.stdout)?;
    let mut all = report["findings"].as_array().into_iter().flatten();
    let found = all.find(|finding| finding["check"] == check);
    let found = found.with_context(|| format!("no finding {check}: {report:#}"))?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), format!("{} {}", text("what"), text("mend"))))
}

/// The control plane has a name that only a proxy can reach: enrolment, records, apps and doctor go
/// through it, and TLS from end to end. What it refuses is told with what to do, without the password.
#[test]
fn a_gateway_behind_a_proxy() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let cloud = Cloud::start_as(&dir.path().join("cloud"), &author, HOST)?;
    let place = format!("{HOST}:{}", cloud.link.address().port());
    let rules = Rules { login: Some(LOGIN.to_owned()), place, target: cloud.link.address() };
    let proxy = Proxy::start(rules.clone())?;
    let at = proxy.address();
    let bundle = dir.path().join("help.tar.gz");
    let right = format!("proxy = \"http://{IN_ADDRESS}@{at}\"");
    let wrong = format!("proxy = \"http://barn:wrong-horse@{at}\"");
    let setup = Setup { more: format!("[uplink]\n{wrong}"), ..Setup::open("hidden") };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    let token = author.holm(&["gateway", "add", "hidden"])?;
    let refused = gateway.enroll(token.trim()).expect_err("the proxy knows nobody").to_string();
    assert!(refused.contains("(407)") && !refused.contains("wrong-horse"), "{refused}");
    assert_eq!(proxy.answered(407), 1, "nobody asks again");
    set_proxy(&gateway, &right)?;
    gateway.enroll(token.trim())?;
    gateway.start()?;
    let app = fixture("apps").join("counter");
    author.holm(&["deploy", app.to_str().context("not UTF-8")?, "--all"])?;
    wait_live(&gateway, "counter")?;
    publish(&gateway, 1, 20)?;
    wait_drained(&gateway)?;
    assert_eq!(cloud.stream("hidden", 1)?.len(), 20);
    assert!(proxy.answered(200) >= 2, "enrolment and uplink");
    assert_eq!((proxy.answered(407), proxy.answered(403)), (1, 0));
    let (state, told) = finding(&gateway, "control-plane")?;
    assert!(state == "ok" && told.contains(&format!("through the proxy {at}")), "{told}");
    let path = bundle.to_str().context("not UTF-8")?;
    ensure!(gateway.agent(&["doctor", "--bundle", path])?.status()?.success());
    let unpacked = std::process::Command::new("tar").args(["-xzOf", path]).output()?;
    let unpacked = String::from_utf8(unpacked.stdout)?;
    assert!(unpacked.contains(&format!("http://{at}")), "the proxy is named: {unpacked}");

    // Without a proxy there is no way, and devices are served.
    gateway.stop()?;
    set_proxy(&gateway, "proxy = \"none\"")?;
    gateway.start()?;
    wait_told(&gateway, HOST)?;
    publish(&gateway, 2, 5)?;
    gateway.stop()?;

    // A wrong password, and a place that the proxy does not allow.
    set_proxy(&gateway, &wrong)?;
    gateway.start()?;
    let why = wait_told(&gateway, "(407)")?;
    assert!(why.contains("[uplink] of agent.toml"), "{why}");
    let (state, told) = finding(&gateway, "control-plane")?;
    assert!(state == "warning" && told.contains("(407)"), "{told}");
    gateway.stop()?;
    let strict = Proxy::start(Rules { place: "elsewhere.invalid:1".to_owned(), ..rules })?;
    set_proxy(&gateway, &format!("proxy = \"http://{IN_ADDRESS}@{}\"", strict.address()))?;
    gateway.start()?;
    wait_told(&gateway, "(403)")?;
    gateway.stop()?;
    for secret in [PASSWORD, IN_ADDRESS, LOGIN, "wrong-horse"] {
        assert!(!gateway.printed().contains(secret) && !unpacked.contains(secret), "{secret}");
    }

    set_proxy(&gateway, &right)?;
    gateway.start()?;
    wait_drained(&gateway)?;
    assert_eq!(cloud.stream("hidden", 1)?.len(), 25, "what waited is there");
    gateway.stop()
}

/// Without a word in the settings the environment says it, as for other programs.
#[test]
fn a_proxy_of_the_environment() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let cloud = Cloud::start_as(&dir.path().join("cloud"), &author, HOST)?;
    let place = format!("{HOST}:{}", cloud.link.address().port());
    let proxy = Proxy::start(Rules { login: None, place, target: cloud.link.address() })?;
    let variable = |name: &str, value: String| (name.to_owned(), value);
    let https = variable("HTTPS_PROXY", format!("http://{}", proxy.address()));
    let mut setup = Setup { environment: vec![https], ..Setup::open("hidden") };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.enroll(author.holm(&["gateway", "add", "hidden"])?.trim())?;
    gateway.start()?;
    wait_for(PATIENCE, "the uplink", || {
        Ok((gateway.status()?["uplink"]["up"] == true).then_some(()))
    })?;
    gateway.stop()?;
    setup.environment.push(variable("NO_PROXY", "localhost, .invalid".to_owned()));
    let mut excepted = Gateway::new(&dir.path().join("gateway"), &setup)?;
    excepted.start()?;
    wait_told(&excepted, HOST)?;
    excepted.stop()
}

/// Enrolment, sync and devices over IPv6 alone; and a listener of all addresses, to which an IPv4
/// client of this machine is one of this machine.
#[test]
fn ipv6_from_device_to_control_plane() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let author = Author::new(&dir.path().join("author"))?;
    let cloud = Cloud::start_as(&dir.path().join("cloud"), &author, "::1")?;
    assert!(cloud.link.address().is_ipv6());
    let port = |at: &str| -> Result<u16> { Ok(TcpListener::bind(at)?.local_addr()?.port()) };
    let (six, both) = (port("[::1]:0")?, port("[::]:0")?);
    let more = format!(
        "[[listeners]]\nbind = \"[::1]:{six}\"\n[[listeners]]\nbind = \"[::]:{both}\"\n\
         plaintext_beyond_loopback = true\n"
    );
    let mut gateway =
        Gateway::new(&dir.path().join("gateway"), &Setup { more, ..Setup::open("sixth") })?;
    gateway.enroll(author.holm(&["gateway", "add", "sixth"])?.trim())?;
    gateway.start()?;
    let app = fixture("apps").join("counter");
    author.holm(&["deploy", app.to_str().context("not UTF-8")?, "--all"])?;
    wait_live(&gateway, "counter")?;
    let places: [SocketAddr; 3] = [
        (Ipv6Addr::LOCALHOST, six).into(),
        (Ipv6Addr::LOCALHOST, both).into(),
        (Ipv4Addr::LOCALHOST, both).into(),
    ];
    for (place, boot) in places.into_iter().zip(1..) {
        let plan = Plan {
            login: Login::anonymous(place, "press"),
            topic: "sensors/press".to_owned(),
            window: 10,
            rate_per_s: None,
            ids: true,
            patience: PATIENCE,
            stop: None,
        };
        let readings = &readings::read(&readings::excerpt())?[..5];
        let file = tempfile::NamedTempFile::new()?;
        device::run(&plan, readings, boot, &mut Ledger::create(file.path())?)?;
    }
    wait_drained(&gateway)?;
    assert_eq!(cloud.stream("sixth", 1)?.len(), 15);
    for check in ["dns", "control-plane", "ports"] {
        let (state, told) = finding(&gateway, check)?;
        assert_eq!(state, "ok", "{told}");
    }
    gateway.stop()
}

/// An address space that is too short for all workers that the settings want: fewer run, and it is
/// told; functions are compiled and run.
#[test]
fn a_short_address_space_has_fewer_workers() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let setup = Setup {
        author_keys: vec![crate::support::author().key()?],
        address_space_kib: Some(1_500_000),
        more: "[limits]\nworkers = 200\n".to_owned(),
        // What glibc's heaps of threads take differs from run to run.
        environment: vec![("MALLOC_ARENA_MAX".to_owned(), "2".to_owned())],
        ..Setup::open("narrow")
    };
    let mut gateway = Gateway::new(&dir.path().join("gateway"), &setup)?;
    gateway.start()?;
    crate::support::deploy_counter(&gateway)?;
    publish(&gateway, 1, 20)?;
    gateway.wait_idle(PATIENCE)?;
    let state = gateway.ask(&["state", "counter/counter"])?;
    assert_eq!(state[0]["value"]["text"], "20");
    assert!(gateway.printed().contains("address space is short"), "{}", gateway.printed());
    let (state, told) = finding(&gateway, "address-space")?;
    assert!(state == "warning" && told.contains("of 200 workers"), "{told}");
    gateway.stop()
}
