//! Tokens, certificates, and whose topics are whose.

use rumqttc::ConnectReturnCode;
use serde_json::json;
use sync_protocol::enroll::{EnrollReply, Token};
use sync_protocol::topics;
use sync_protocol::wire::{Down, Message as _, Records, Up};

use crate::gateway::{Identity, Refusal, connect, connect_as, enrol, exchange, record, request};
use crate::harness::Cloud;

#[tokio::test]
async fn a_gateway_enrols_and_is_online() {
    let cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    assert_eq!(identity.enrolled.instance, cloud.report.settings.instance);
    assert_eq!(identity.enrolled.author_keys, [cloud.report.author_key]);
    assert_eq!(identity.enrolled.endpoint, format!("localhost:{}", cloud.mqtt.port()));
    let mut gateway = connect(&cloud, &identity).await;
    let (welcome, desired) = gateway.hello(7, 1, 0).await;
    assert_eq!(welcome.instance, cloud.report.settings.instance);
    assert_eq!((desired.generation, desired.apps.len()), (0, 0));
    let (_, view) = cloud.get("/v1/gateways/gw-a").await;
    assert_eq!(view["online"], true);
    assert_eq!(view["agent_version"], "0.1.0");
    assert_eq!(view["epoch"], "0000000000000007");
}

#[tokio::test]
async fn a_token_works_once_and_its_answer_can_be_had_again() {
    let cloud = Cloud::start().await;
    let token = cloud.add_gateway("gw-a").await;
    let (first, _) = request();
    let answer = exchange(&cloud, &token, &first).await.unwrap();
    assert!(matches!(answer, EnrollReply::Accepted(_)));
    assert_eq!(exchange(&cloud, &token, &first).await.unwrap(), answer, "the reply was lost");
    let (second, _) = request();
    match exchange(&cloud, &token, &second).await.unwrap() {
        EnrollReply::Refused { reason } => assert!(reason.contains("used already"), "{reason}"),
        EnrollReply::Accepted(_) => panic!("a token worked twice"),
    }
}

#[tokio::test]
async fn wrong_tokens_do_not_connect() {
    let cloud = Cloud::start().await;
    let token = cloud.add_gateway("gw-a").await;
    cloud.add_gateway("gw-b").await;
    let (request, _) = request();
    for wrong in [
        Token { secret: [0; 32], ..token.clone() },
        Token { gateway: "gw-b".into(), ..token.clone() },
        Token { gateway: "nobody".into(), ..token.clone() },
    ] {
        let refused = exchange(&cloud, &wrong, &request).await;
        let code = ConnectReturnCode::BadUserNamePassword;
        assert_eq!(refused, Err(Refusal::Connect(code)), "{wrong:?}");
    }
    assert!(exchange(&cloud, &token, &request).await.is_ok());
}

#[tokio::test]
async fn a_gateway_uses_its_own_topics_only() {
    let cloud = Cloud::start().await;
    let (a, b) = (enrol(&cloud, "gw-a").await, enrol(&cloud, "gw-b").await);

    let foreign = connect_as(&cloud, &a, "gw-a", "gw-b").await.err();
    assert_eq!(foreign, Some(Refusal::Subscribe), "A reads what B is told");
    let posing = connect_as(&cloud, &a, "gw-b", "gw-b").await.err();
    let code = ConnectReturnCode::BadClientId;
    assert_eq!(posing, Some(Refusal::Connect(code)), "A connects as B");

    let mut victim = connect(&cloud, &b).await;
    victim.hello(8, 1, 0).await;
    let mut attacker = connect(&cloud, &a).await;
    let up = Up::Records(Records { stream: 1, records: vec![record(1)] });
    attacker.publish(topics::up("gw-b"), up.encode().unwrap()).await;
    attacker.closed().await;

    let (_, ledger) = cloud.get("/v1/gateways/gw-b/streams/1/records").await;
    assert_eq!(ledger["stored_to"], 0, "A wrote as B: {ledger}");
    victim.send(vec![record(1)]).await;
    assert_eq!(victim.receipted(1).await, 1, "B does not notice");
}

#[tokio::test]
async fn two_machines_with_one_certificate_raise_an_alarm() {
    let cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let mut first = connect(&cloud, &identity).await;
    first.hello(1, 1, 0).await;
    let mut second = connect(&cloud, &identity).await;
    second.hello(2, 1, 0).await;
    first.closed().await;
    let (_, alarms) = cloud.get("/v1/alarms?gateway=gw-a").await;
    assert_eq!(alarms["rows"][0]["code"], "two-gateways", "{alarms}");

    let id = alarms["rows"][0]["id"].clone();
    let (status, _) = cloud.call("DELETE", &format!("/v1/alarms/{id}"), Vec::new()).await;
    assert_eq!(status, 200);
    let mut third = connect(&cloud, &identity).await;
    third.hello(2, 1, 0).await;
    let (_, alarms) = cloud.get("/v1/alarms").await;
    assert_eq!(alarms["rows"].as_array().unwrap().len(), 0, "the same run again is none");
    let mut back = connect(&cloud, &identity).await;
    back.hello(1, 1, 0).await;
    let (_, alarms) = cloud.get("/v1/alarms").await;
    assert_eq!(alarms["rows"][0]["code"], "two-gateways", "the first run is back");
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_within_its_connection() {
    let cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let mut gateway = connect(&cloud, &identity.expired(&cloud, 26)).await;
    gateway.say_hello(7, 1, 0).await;
    let mut answers = Vec::new();
    while answers.len() < 3 {
        answers.push(gateway.next().await.expect("a connection"));
    }
    assert!(answers.contains(&Down::RenewCertificate), "{answers:?}");
    gateway.send(vec![record(1)]).await;
    assert_eq!(gateway.receipted(1).await, 1, "records flow meanwhile");
    let (request, key) = request();
    gateway.say(&Up::CertificateRequest(request)).await;
    let certificate = match gateway.next().await {
        Some(Down::Certificate(der)) => der,
        other => panic!("{other:?}"),
    };
    drop(gateway);
    let mut renewed = connect(&cloud, &identity.with(certificate, key)).await;
    // Welcome comes first: nothing is to be renewed.
    renewed.hello(8, 1, 1).await;
    let lost = connect_as(&cloud, &identity.expired(&cloud, 400), "gw-a", "gw-a").await.err();
    assert_eq!(lost, Some(Refusal::Lost), "the grace is over");
}

/// A year more for whoever holds a key is given when it is due, not whenever it is asked for.
#[tokio::test]
async fn a_certificate_that_is_good_for_long_is_not_renewed() {
    let cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let mut gateway = connect(&cloud, &identity).await;
    gateway.hello(7, 1, 0).await;
    for seq in 1..=5 {
        gateway.say(&Up::CertificateRequest(request().0)).await;
        gateway.send(vec![record(seq)]).await;
        let answer = gateway.next().await;
        assert!(matches!(answer, Some(Down::Receipt(_))), "{answer:?}");
    }
}

/// After an outage a fleet comes back at once, with worn certificates.
#[tokio::test]
async fn many_renewals_at_once_cut_no_connection() {
    let cloud = Cloud::start().await;
    let mut fleet = Vec::new();
    for n in 0..24 {
        let identity = enrol(&cloud, &format!("gw-{n}")).await;
        let mut gateway = connect(&cloud, &identity.expired(&cloud, 26)).await;
        gateway.say_hello(7, 1, 0).await;
        for _ in 0..3 {
            gateway.next().await.expect("a connection");
        }
        fleet.push((gateway, request().0));
    }
    for (gateway, request) in &fleet {
        gateway.say(&Up::CertificateRequest(request.clone())).await;
    }
    for (gateway, _) in &mut fleet {
        gateway.send(vec![record(1)]).await;
        loop {
            match gateway.next().await {
                Some(Down::Certificate(_)) => {}
                Some(Down::Receipt(_)) => break,
                other => panic!("{}: {other:?}", gateway.name),
            }
        }
    }
}

async fn refused(cloud: &Cloud, identity: &Identity) {
    let error = connect_as(cloud, identity, &identity.name, &identity.name).await.err();
    assert_eq!(error, Some(Refusal::Connect(ConnectReturnCode::NotAuthorized)));
}

#[tokio::test]
async fn a_removed_gateway_has_no_access_and_its_data_stay() {
    let cloud = Cloud::start().await;
    let (old, other) = (enrol(&cloud, "gw-a").await, enrol(&cloud, "gw-b").await);
    let (mut gateway, mut bystander) = (connect(&cloud, &old).await, connect(&cloud, &other).await);
    gateway.hello(7, 1, 0).await;
    bystander.hello(8, 1, 0).await;
    gateway.send(vec![record(1)]).await;
    gateway.receipted(1).await;
    let unused = cloud.add_gateway("gw-a").await;

    let remove = async || cloud.call("DELETE", "/v1/gateways/gw-a", Vec::new()).await;
    assert_eq!(remove().await.0, 200);
    gateway.closed().await;
    refused(&cloud, &old).await;
    refused(&cloud, &old.expired(&cloud, 26)).await;
    let code = ConnectReturnCode::BadUserNamePassword;
    let token = exchange(&cloud, &unused, &request().0).await;
    assert_eq!(token, Err(Refusal::Connect(code)), "its token is void, too");
    assert_eq!(remove().await.0, 404);

    let (_, list) = cloud.get("/v1/gateways").await;
    let names: Vec<_> = list["rows"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["gw-b"]);
    let (_, shown) = cloud.get("/v1/gateways/gw-a").await;
    assert!(shown["removed_ms"].is_u64() && shown["online"] == false, "{shown}");
    let (_, kept) = cloud.get("/v1/gateways/gw-a/streams/1/records").await;
    assert_eq!(kept["stored_to"], 1, "{kept}");
    bystander.send(vec![record(1)]).await;
    assert_eq!(bystander.receipted(1).await, 1, "another gateway does not notice");

    let new = enrol(&cloud, "gw-a").await;
    let (welcome, _) = connect(&cloud, &new).await.hello(9, 2, 1).await;
    assert_eq!(welcome.stored[0].seq, 1, "its data go on");
    refused(&cloud, &old).await;
}

/// A stolen or copied card: whoever enrols anew ends what all others have.
#[tokio::test]
async fn an_enrolment_voids_the_certificates_from_before() {
    let cloud = Cloud::start().await;
    let old = enrol(&cloud, "gw-a").await;
    let mut thief = connect(&cloud, &old).await;
    thief.hello(7, 1, 0).await;
    let token = cloud.add_gateway("gw-a").await;
    thief.send(vec![record(1)]).await;
    assert_eq!(thief.receipted(1).await, 1, "a token that nobody used ends nothing");
    let (request, key) = request();
    let enrolled = match exchange(&cloud, &token, &request).await.unwrap() {
        EnrollReply::Accepted(enrolled) => *enrolled,
        EnrollReply::Refused { reason } => panic!("{reason}"),
    };
    thief.closed().await;
    let (_, alarms) = cloud.get("/v1/alarms").await;
    assert_eq!(alarms["rows"].as_array().unwrap().len(), 0, "it has not come back: {alarms}");
    refused(&cloud, &old).await;
    refused(&cloud, &old.expired(&cloud, 26)).await;
    connect(&cloud, &old.with(enrolled.certificate, key)).await.hello(8, 2, 1).await;
    let (_, alarms) = cloud.get("/v1/alarms?gateway=gw-a").await;
    assert_eq!(alarms["rows"].as_array().unwrap().len(), 1, "{alarms}");
    let alarm = &alarms["rows"][0];
    assert_eq!(
        (&alarm["code"], &alarm["count"]),
        (&json!("void-certificate"), &json!(1)),
        "{alarm}"
    );
}
