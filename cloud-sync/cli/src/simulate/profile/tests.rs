use super::*;

fn parse(text: &str) -> Result<Profile, Vec<String>> {
    let csv = |path: &Path| match path.to_str() {
        Some("day.csv") => Ok("t,celsius\n1,10\n2,20\n".to_owned()),
        _ => Err("no such file".to_owned()),
    };
    Profile::parse(text, &csv)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn an_empty_profile_is_a_quiet_fleet() {
    let profile = parse("").unwrap();
    assert_eq!((profile.period_ms, profile.faults.len()), (1_000, 0));
    assert_eq!(profile.topic_of("sim-0001"), "sensors/sim-0001");
    assert_eq!(profile.readings_filter(), "sensors/+");
    assert_eq!(profile.device_of("sensors/sim-0001"), Some("sim-0001"));
    assert!(profile.sensors.contains_key(TEMPERATURE) && profile.hostile.is_none());
}

#[test]
fn the_template_is_sound_and_its_commented_lines_are_too() {
    let profile = parse(WORKSHOP).unwrap();
    assert_eq!(profile.faults.len(), 5);
    assert!(profile.hostile.is_some() && profile.clock.is_some() && profile.functions.is_some());
    let key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let all: Vec<&str> = WORKSHOP
        .lines()
        .map(|line| line.strip_prefix("#: ").filter(|rest| key(rest)).unwrap_or(line))
        .collect();
    let all = all.join("\n");
    assert_ne!(all, WORKSHOP.trim_end());
    parse(&all).unwrap();
}

#[test]
fn every_sensor_is_read() {
    let profile = parse(
        "message = \"json\"\n\
         [sensors.a]\nwaveform = \"constant\"\nvalue = -3\n\
         [sensors.b]\nwaveform = \"ramp\"\nfrom = 1\nto = 2.5\nevery = \"1 min\"\n\
         [sensors.c]\nwaveform = \"walk\"\nstart = 1\nlow = 0\nhigh = 2\n\
         [sensors.d]\nwaveform = \"replay\"\nfile = \"day.csv\"\ncolumn = \"celsius\"\nevery = \"5 min\"\nspeed = 60\n\
         scale = 2\noffset = 1\n",
    )
    .unwrap();
    let shape = |name: &str| &profile.sensors[name].shape;
    assert_eq!(*shape("a"), Shape::Constant { value: -3.0 });
    assert_eq!(*shape("b"), Shape::Ramp { from: 1.0, to: 2.5, every_ms: 60_000 });
    let values = vec![21.0, 41.0].into();
    assert_eq!(*shape("d"), Shape::Replay { values, every_ms: 5_000.0 });
}

#[test]
fn all_mistakes_are_told_with_their_lines() {
    let problems = parse(
        "perid = \"1 s\"\ntopic = \"sensors\"\n[sensors.temperature]\nwaveform = \"sinus\"\n\
         [sensors.x]\nwaveform = \"replay\"\nfile = \"none.csv\"\n\
         [sensors.y]\nwaveform = \"walk\"\nstart = 1\nlow = 2\n\
         [faults.powercut]\ndevices = 0.1\n[faults.cut]\ndevices = 2\n[hostile]\nevery = \"1 ms\"\n",
    )
    .unwrap_err();
    let all = problems.join("\n");
    for part in [
        "did you mean `period`?",
        "line 2: `topic` must be",
        "\"sinus\", but must be one of",
        "\"none.csv\": no such file",
        "`low` <= `start` <= `high`",
        "unknown key `powercut` in [faults]: did you mean `power_cut`?",
        "`devices` must be between 0 and 1",
        "`every` must be between \"100 ms\"",
    ] {
        assert!(all.contains(part), "{part} in:\n{all}");
    }
}

#[test]
fn a_reading_needs_a_temperature() {
    let problems = parse("[sensors.x]\nwaveform = \"sine\"\n").unwrap_err();
    assert!(problems[0].contains("[sensors.temperature]"), "{problems:?}");
}
