use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};

use super::*;

/// 2028-01-01: within the life of the certificate below.
const WITHIN_S: u64 = 1_830_297_600;
/// 2030-01-01: after it.
const AFTER_S: u64 = 1_893_456_000;
/// 2099-01-01.
const FAR_S: u64 = 4_070_908_800;

struct Server {
    ca: CertificateDer<'static>,
    own: CertificateDer<'static>,
}

/// A control plane whose certificate begins after this source was released.
fn server() -> Server {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
    let ca = ca.expect("a CA");
    let mut params = CertificateParams::new(["cloud".to_owned()]).expect("parameters");
    params.not_before = date_time_ymd(2027, 1, 1);
    params.not_after = date_time_ymd(2029, 1, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own = params.signed_by(&KeyPair::generate().expect("a key"), &ca);
    Server { ca: ca.der().clone(), own: own.expect("a certificate").der().clone() }
}

/// Whether a gateway goes on with the handshake when its clock shows `now_s`.
fn accepts(server: &Server, trust: Trust, time: &Arc<TimeFloor>, now_s: u64, name: &str) -> bool {
    let control_plane = ControlPlane { trust, provider: provider(), time: Arc::clone(time) };
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    let chain = [server.ca.clone()];
    control_plane.verify_server_cert(&server.own, &chain, &name, &[], now).is_ok()
}

fn root(server: &Server) -> Trust {
    let mut roots = RootCertStore::empty();
    roots.add(server.ca.clone()).expect("a CA");
    Trust::Root(verifier(roots).expect("a verifier"))
}

fn pin(server: &Server) -> Trust {
    let digest = ring::digest::digest(&ring::digest::SHA256, &server.ca);
    Trust::Pinned(digest.as_ref().try_into().expect("32 bytes"))
}

#[test]
fn a_clock_that_nobody_vouched_for_keeps_no_gateway_from_its_control_plane() {
    let (server, other) = (server(), self::server());
    for trust in [root, pin] {
        let time = TimeFloor::new(0);
        for shown_s in [0, BUILD_FLOOR_UNIX_S, WITHIN_S, AFTER_S, FAR_S] {
            assert!(accepts(&server, trust(&server), &time, shown_s, "cloud"), "{shown_s}");
            assert!(!accepts(&server, trust(&server), &time, shown_s, "else"), "{shown_s}");
            assert!(!accepts(&server, trust(&other), &time, shown_s, "cloud"), "{shown_s}");
        }
    }
}

#[test]
fn what_ended_before_the_last_vouched_time_stays_dead() {
    let server = server();
    let time = TimeFloor::new(0);
    time.vouch(WITHIN_S);
    assert!(accepts(&server, root(&server), &time, FAR_S, "cloud"));
    time.vouch(AFTER_S);
    for shown_s in [AFTER_S, FAR_S] {
        assert!(!accepts(&server, root(&server), &time, shown_s, "cloud"), "{shown_s}");
    }
    time.vouch(0);
    let now = time.current_time().expect("a time").as_secs();
    assert!(now >= AFTER_S, "it never goes back: {now}");
}

#[test]
fn a_clock_that_is_known_is_believed() {
    let server = server();
    let time = TimeFloor::new(0);
    time.know(WITHIN_S * 1_000);
    let now = time.current_time().expect("a time").as_secs();
    assert!((WITHIN_S..WITHIN_S + 60).contains(&now), "not the system's: {now}");
    assert!(accepts(&server, root(&server), &time, WITHIN_S, "cloud"));
    assert!(!accepts(&server, root(&server), &time, AFTER_S, "cloud"), "it has ended");
    assert!(!accepts(&server, root(&server), &time, BUILD_FLOOR_UNIX_S, "cloud"), "not yet");
}
