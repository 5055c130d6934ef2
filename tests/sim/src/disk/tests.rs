use super::*;

fn disk() -> SimDisk {
    SimDisk::new(1 << 20, Rng::new(1))
}

fn read(disk: &dyn Disk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(name).unwrap()?;
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    Some(bytes)
}

#[test]
fn what_was_synced_survives_and_the_rest_may_not() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = SimDisk::new(1 << 20, Rng::new(seed));
        let mounted = disk.mount();
        let file = mounted.create("a").unwrap();
        file.write_at(0, b"kept").unwrap();
        file.sync_data().unwrap();
        mounted.sync_dir().unwrap();
        file.write_at(4, b"gone").unwrap();
        disk.cut_power();
        assert!(file.write_at(0, b"late").is_err(), "the process is dead");
        let left = read(&*disk.mount(), "a").unwrap();
        assert!(left.starts_with(b"kept"));
        lost += usize::from(left.len() == 4);
    }
    assert!((10..40).contains(&lost), "{lost}");
}

#[test]
fn names_are_lost_from_the_end_and_files_with_them() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let disk = SimDisk::new(1 << 20, Rng::new(seed));
        let mounted = disk.mount();
        for name in ["a", "b"] {
            mounted.create(name).unwrap().sync_data().unwrap();
        }
        disk.cut_power();
        let mounted = disk.mount();
        seen.insert(["a", "b"].map(|name| mounted.open(name).unwrap().is_some()));
    }
    let all = [[false, false], [true, false], [true, true]];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn without_a_power_cut_all_stays() {
    let disk = disk();
    disk.mount().create("a").unwrap().write_at(0, b"cached").unwrap();
    disk.end_process();
    assert_eq!(read(&*disk.mount(), "a").unwrap(), b"cached");
}

#[test]
fn a_full_disk_refuses_to_grow_and_nothing_else() {
    let disk = disk();
    let mounted = disk.mount();
    let file = mounted.create("a").unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_at(0, b"within").unwrap();
    let kind = mounted.create("b").unwrap().write_at(0, b"x").unwrap_err().kind();
    assert_eq!(kind, io::ErrorKind::StorageFull);
    assert_eq!(disk.counts().full, 1);
}

#[test]
fn the_process_can_die_at_any_operation() {
    let disk = disk();
    let file = disk.mount().create("a").unwrap();
    disk.die_after(Some(1));
    file.write_at(0, b"one").unwrap();
    assert!(!disk.is_dead());
    assert!(file.sync_data().is_err());
    assert!(disk.is_dead() && file.len().is_err());
    disk.cut_power();
    assert!(!disk.is_dead());
}

#[test]
fn ids_in_synced_bytes_are_known() {
    let disk = disk();
    let file = disk.mount().create("a").unwrap();
    let bytes = [b"hh".as_slice(), MARK, &7_u64.to_be_bytes(), MARK, &9_u64.to_be_bytes()].concat();
    file.write_at(0, &bytes).unwrap();
    assert!(!disk.has_durable(7), "not synced");
    file.sync_data().unwrap();
    assert!(disk.has_durable(7) && disk.has_durable(9) && !disk.has_durable(8));
}

#[test]
fn a_sealed_disk_takes_nothing_and_gives_back_what_it_has() {
    let disk = disk();
    let mounted = disk.mount();
    let file = mounted.create("a").unwrap();
    file.write_at(0, b"kept").unwrap();
    file.sync_data().unwrap();
    mounted.sync_dir().unwrap();
    disk.seal(true);
    assert!(file.write_at(0, b"lost").is_err());
    assert!(file.set_len(0).is_err());
    assert!(mounted.create("b").is_err());
    assert!(mounted.rename("a", "b").is_err());
    assert!(mounted.remove("a").is_err());
    assert!(file.sync_data().is_err());
    assert_eq!(read(&*disk.mount(), "a").unwrap(), b"kept");
    disk.seal(false);
    disk.mount().open("a").unwrap().unwrap().write_at(0, b"new!").unwrap();
}
