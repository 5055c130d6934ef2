//! A device in C at Mosquitto.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use device_protocol::provision::{Credential, Gateway, IMAGE_BYTES, Provision, encode_image};
use device_protocol::system::{self, Status};
use device_protocol::{Down, Envelope, SchemaId, Up};

use super::passes;
use super::pki::{self, World};
use super::support::Programs;

/// Far more than anything takes, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "press-7";
const TOKEN: &str = "a token";
const BOOT: u64 = 0x0123_4567_89ab_cdef;

/// A process whose lines are read; killed when dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    /// Passes over lines up to this one.
    fn until(&self, wanted: &str) -> Vec<String> {
        let mut passed = Vec::new();
        loop {
            let line = self.line();
            if line == wanted {
                return passed;
            }
            passed.push(line);
        }
    }

    fn ends_well(mut self) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where Mosquitto is, if it is here.
fn mosquitto() -> Option<&'static str> {
    let found = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"]
        .into_iter()
        .find(|path| Path::new(path).is_file());
    if found.is_none() {
        eprintln!("skipped: Mosquitto is missing (apt-get install mosquitto mosquitto-clients)");
    }
    found
}

/// Whether its clients, which are a package of their own, are here.
fn has_clients() -> bool {
    let found = Command::new("mosquitto_sub").arg("--help").output().is_ok();
    if !found {
        eprintln!("skipped: Mosquitto's clients are missing (apt-get install mosquitto-clients)");
    }
    found
}

/// A broker that knows one device.
struct Broker {
    process: Running,
    port: u16,
    config: std::path::PathBuf,
    program: &'static str,
}

impl Broker {
    /// With further lines of its listener.
    fn start(dir: &Path, more: &str) -> Option<Self> {
        let program = mosquitto()?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let passwords = dir.join("passwords");
        passes(
            Command::new("mosquitto_passwd").args(["-c", "-b"]).arg(&passwords).args([NAME, TOKEN]),
        );
        // It gives up its rights where it has those of root, and has to read the file all the same.
        passes(Command::new("chmod").arg("755").arg(dir));
        passes(Command::new("chmod").arg("644").arg(&passwords));
        let config = dir.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {}\npersistence false\n{more}",
            passwords.display()
        );
        std::fs::write(&config, text).unwrap();
        let process = Self::run(program, &config, port);
        Some(Self { process, port, config, program })
    }

    fn run(program: &str, config: &Path, port: u16) -> Running {
        let process = Running::start(Command::new(program).arg("-c").arg(config));
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "Mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    fn restart(&mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
        self.process = Self::run(self.program, &self.config, self.port);
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-V", "5", "-p", &self.port.to_string(), "-u", NAME, "-P", TOKEN, "-q", "1"]);
        command
    }

    /// Subscribes; its first line is what it got first.
    fn subscribe(&self, topic: &str, dir: &Path) -> Running {
        let subscribed =
            Running::start(self.client("mosquitto_sub").args(["-t", topic, "-F", "%x"]));
        // It says nothing when it is ready: so it is asked until it hears.
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            self.publish(topic, b"ready?", dir);
            if subscribed.lines.recv_timeout(Duration::from_millis(200)).is_ok() {
                while subscribed.lines.recv_timeout(Duration::from_millis(200)).is_ok() {}
                return subscribed;
            }
        }
        panic!("no subscription to {topic}");
    }

    fn publish(&self, topic: &str, payload: &[u8], dir: &Path) {
        let file = dir.join("payload");
        std::fs::write(&file, payload).unwrap();
        passes(self.client("mosquitto_pub").args(["-t", topic]).arg("-f").arg(file));
    }

    fn command(&self, id: u64, name: &str, body: &[u8], dir: &Path) {
        let mut bytes = [0; 128];
        let command = system::Command { id, name, schema: SchemaId::RAW, body };
        let length = Down::Command(command).encode(&mut bytes).unwrap();
        self.publish(&format!("$holm/v1/down/{NAME}/command"), &bytes[..length], dir);
    }
}

fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    let pairs = hexadecimal.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn a_device_in_c_publishes_obeys_and_comes_back() {
    if !has_clients() {
        return;
    }
    let programs = Programs::new();
    let dir = programs.dir();
    let Some(mut broker) = Broker::start(dir, "") else { return };
    let readings = broker.subscribe("sensors/press-7", dir);
    let answers = broker.subscribe("$holm/v1/up/press-7/response", dir);
    let port = broker.port.to_string();
    let client = programs.linked("client");
    let device =
        Running::start(Command::new(client).args([&port, NAME, TOKEN, "sensors/press-7", "20"]));
    assert_eq!(device.line(), "connected resumed 0");
    for sequence in 0..20 {
        assert_eq!(device.line(), format!("acked {sequence}"));
    }
    // What the broker got is what the reference encodes.
    for sequence in 0..20 {
        let bytes = bytes_of(&readings.line());
        let envelope = Envelope::decode(&bytes).unwrap();
        let mut again = [0; 256];
        let length = envelope.encode(&mut again).unwrap();
        assert_eq!(bytes, again[..length]);
        assert_eq!((envelope.device, envelope.boot, envelope.sequence), (NAME, BOOT, sequence));
        assert_eq!(envelope.schema, SchemaId(0xbcbc_55d1_5301_02e5));
    }

    broker.command(7, "echo", b"hello", dir);
    assert_eq!(device.line(), "command echo");
    let bytes = bytes_of(&answers.line());
    let Ok(Up::Response(response)) = Up::decode(&bytes) else { panic!("{bytes:?}") };
    assert_eq!((response.id, response.status, response.body), (7, Status::Done, &b"hello"[..]));
    assert_eq!(device.line(), "acked 20");
    // The same id again is answered again, and not done again.
    broker.command(7, "echo", b"hello", dir);
    assert_eq!(bytes_of(&answers.line()), bytes);
    broker.command(8, "dance", b"", dir);
    assert_eq!(device.line(), "command dance");
    let bytes = bytes_of(&answers.line());
    let Ok(Up::Response(response)) = Up::decode(&bytes) else { panic!("{bytes:?}") };
    assert_eq!((response.id, response.status), (8, Status::Unknown));

    broker.restart();
    let passed = device.until("connected resumed 0");
    assert!(passed.iter().all(|line| line.starts_with("disconnected")), "{passed:?}");
    assert!(!passed.is_empty());
    // It is connected before it is subscribed: who sends a command repeats it until there is an answer.
    let until = Instant::now() + PATIENCE;
    while device.lines.recv_timeout(Duration::from_millis(500)).is_err() {
        assert!(Instant::now() < until, "no answer");
        broker.command(9, "exit", b"", dir);
    }
    device.ends_well();
}

#[test]
fn a_wrong_token_is_told_as_such() {
    let programs = Programs::new();
    let Some(broker) = Broker::start(programs.dir(), "") else { return };
    let port = broker.port.to_string();
    let client = programs.linked("client");
    let device =
        Running::start(Command::new(client).args([&port, NAME, "wrong", "sensors/x", "1"]));
    // 0x87: not authorized. It is said at each attempt.
    for _ in 0..2 {
        assert_eq!(device.line(), "disconnected trouble 5 reason 135");
    }
}

/// An image as `holm device add --token` writes it, for this gateway's name.
fn image(world: &World, server_name: &str, path: &Path) {
    let mut gateways = heapless::Vec::new();
    gateways.push(Gateway { host: "127.0.0.1", port: 8883 }).unwrap();
    let provision = Provision {
        device: NAME,
        issued_unix_s: pki::NOW,
        gateways,
        server_name,
        credential: Credential::Token { gateway_ca: &world.gateway_ca.der, token: TOKEN },
        author_key: None,
    };
    let mut image = [0; IMAGE_BYTES];
    encode_image(&provision, 1, &mut image).unwrap();
    std::fs::write(path, image).unwrap();
}

#[test]
fn with_tls_it_publishes_to_its_gateway_and_to_no_other() {
    let programs = Programs::new();
    let dir = programs.dir();
    let world = World::new();
    let file = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let listener = format!(
        "user root\ntls_version tlsv1.3\ncertfile {}\nkeyfile {}\n",
        file("cert.pem", world.gateway.pem()),
        file("key.pem", pki::pem("PRIVATE KEY", &world.gateway.key.serialize_der())),
    );
    let Some(broker) = Broker::start(dir, &listener) else { return };
    let port = broker.port.to_string();
    let client = programs.linked_with_tls("client");
    let run = |image: &Path| {
        let mut command = Command::new(&client);
        Running::start(command.args([&port, NAME]).arg(image).args(["sensors/press-7", "20"]))
    };

    let path = dir.join("press-7.provision");
    image(&world, pki::NAME, &path);
    let device = run(&path);
    assert_eq!(device.line(), "connected resumed 0");
    for sequence in 0..20 {
        assert_eq!(device.line(), format!("acked {sequence}"));
    }
    drop(device);

    image(&world, "barn-4.local", &path);
    assert_eq!(run(&path).line(), "disconnected trouble 7 reason 1");
    image(&World::new(), pki::NAME, &path);
    assert_eq!(run(&path).line(), "disconnected trouble 7 reason 1");
}
