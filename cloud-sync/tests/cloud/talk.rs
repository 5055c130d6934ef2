//! Commands and logs of a connected gateway.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value, json};
use sync_protocol::wire::{Command, Down, LogLevel, LogLine, Logs, Reply, Request, Up};

use crate::gateway::{Gateway, connect, enrol};
use crate::harness::Cloud;

async fn command(gateway: &mut Gateway) -> Command {
    loop {
        match gateway.next().await {
            Some(Down::Command(command)) => return command,
            Some(_) => {}
            None => panic!("the connection is gone"),
        }
    }
}

#[tokio::test]
async fn a_command_reaches_the_gateway_and_its_answer_comes_back() {
    let cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let mut gateway = connect(&cloud, &identity).await;
    let answering = tokio::spawn(async move {
        let asked = command(&mut gateway).await;
        assert_eq!(asked.request, Request::Status);
        let result = Ok(json!({"queue": 3}).to_string());
        gateway.say(&Up::Reply(Reply { id: asked.id, result })).await;
        let asked = command(&mut gateway).await;
        let Request::StateGet { function, device, key, offset: 0 } = asked.request else {
            panic!()
        };
        assert_eq!((function.as_str(), device, key.as_str()), ("a/f", None, "k"));
        let result = Err("there is no such key".into());
        gateway.say(&Up::Reply(Reply { id: asked.id, result })).await;
        gateway
    });
    let path = "/v1/gateways/gw-a/commands";
    let (status, reply) = cloud.post(path, json!({"request": "status"})).await;
    assert_eq!((status, &reply["reply"]["queue"]), (200, &json!(3)), "{reply}");
    let question = json!({"request": {"state-get": {"function": "a/f", "key": "k"}}});
    let (status, reply) = cloud.post(path, question).await;
    assert_eq!((status, &reply["error"]), (409, &json!("there is no such key")));
    let gateway = answering.await.unwrap();
    let late = json!({"request": "status", "timeout_ms": 1});
    assert_eq!(cloud.post(path, late).await.0, 504);
    drop(gateway);
}

#[tokio::test]
async fn commands_to_nobody_are_refused() {
    let cloud = Cloud::start().await;
    enrol(&cloud, "gw-a").await;
    let ask = json!({"request": "status"});
    let (status, reply) = cloud.post("/v1/gateways/gw-a/commands", ask.clone()).await;
    assert_eq!((status, reply["error"].as_str().unwrap().contains("not connected")), (409, true));
    assert_eq!(cloud.post("/v1/gateways/nobody/commands", ask).await.0, 404);
    let junk = json!({"request": {"reboot": {}}});
    assert_eq!(cloud.post("/v1/gateways/gw-a/commands", junk).await.0, 400);
}

#[tokio::test]
async fn log_lines_stream_to_a_follower() {
    let cloud = Cloud::start().await;
    let identity = enrol(&cloud, "gw-a").await;
    let mut gateway = connect(&cloud, &identity).await;
    let url = format!("http://{}/v1/gateways/gw-a/logs", cloud.http);
    let token = format!("Bearer {}", cloud.report.operator_token);
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel::<Value>();
    tokio::task::spawn_blocking(move || {
        let reply = ureq::get(url).header("authorization", token).call().unwrap();
        assert_eq!(reply.headers()["content-type"], "application/x-ndjson");
        let lines = BufReader::new(reply.into_body().into_reader()).lines();
        // Enough for this test; then the connection is closed.
        for line in lines.map_while(Result::ok).take(2) {
            sender.send(serde_json::from_str(&line).unwrap()).unwrap();
        }
    });
    assert!(matches!(command(&mut gateway).await.request, Request::Logs { for_s: 1.. }));
    let line = LogLine {
        unix_ms: 5,
        level: LogLevel::Warn,
        source: "a/f".into(),
        event: None,
        text: "too warm".into(),
    };
    gateway.say(&Up::Logs(Logs { lines: vec![line], dropped: 2 })).await;
    assert_eq!(lines.recv().await.unwrap(), json!({"dropped_lines": 2}));
    let line = lines.recv().await.unwrap();
    assert_eq!((&line["level"], &line["text"]), (&json!("warn"), &json!("too warm")));
}
