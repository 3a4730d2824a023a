use super::{CONFIG, DATABASE, Local, Told, copied, is_mounted, look, tell, was_ready};
use crate::join::TITLE;
use crate::join::story::Story;
use crate::join::tests::{around, document};
use crate::join::words::Cause;
use kiln_contract::datastore::{Disk, Here, Store};
use kiln_contract::event::{BOOT_RECORD, RECORD};
use kiln_contract::join::{Endpoint, Join, Role};
use kiln_contract::rejoin::Emptied;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn server() -> Join {
    Join { role: Role::Server, first: true, store: Some(Store::default()), ..document() }
}

/// With a disk that is mounted, or not.
fn on_disk(root: &Path, mounted: bool) -> Store {
    let line = if mounted { "36 25 8:1 / /mnt/db rw - ext4 /dev/sdb1 rw\n" } else { "" };
    put(root, "proc/self/mountinfo", &format!("25 1 8:2 / / ro - ext4 /dev/sda2 ro\n{line}"));
    fs::create_dir_all(root.join("mnt/db")).unwrap();
    Store {
        data: Some(Disk { disk: "db".to_owned(), mount_point: "/mnt/db".to_owned() }),
        ..Store::default()
    }
}

#[test]
fn what_lies_on_the_node_is_told_apart() {
    for (files, want) in [
        (vec![], Here::Nothing),
        // What k3s leaves of an etcd that never came up.
        (vec!["etcd/name"], Here::Nothing),
        (vec!["etcd/member/wal/0.wal"], Here::Etcd),
        (vec!["etcd/member/wal/0.wal", "etcd/tombstone"], Here::Nothing),
        (vec!["state.db"], Here::Sqlite),
        (vec!["state.db", "kiln-turning"], Here::Sqlite),
        (vec!["state.db", "etcd/member/wal/0.wal"], Here::Etcd),
        (vec!["state.db", "kiln-turning", "etcd/member/wal/0.wal"], Here::HalfTurned),
        (vec!["state.db.migrated", "kiln-turning", "etcd/member/wal/0.wal"], Here::Etcd),
    ] {
        let root = tempfile::tempdir().unwrap();
        for file in &files {
            put(root.path(), &format!("{DATABASE}/{file}"), "");
        }
        let (local, _) = look(&around(root.path()), &server(), &Store::default()).unwrap();
        assert_eq!(local, Local { here: want, was_ready: false }, "{files:?}");
    }
}

#[test]
fn a_data_disk_keeps_the_datastore_and_is_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let around_it = around(root.path());
    let missing = on_disk(root.path(), false);
    assert_eq!(look(&around_it, &server(), &missing).unwrap_err().cause, Cause::NoDisk);
    assert!(!root.path().join("mnt/db/k3s-server").exists(), "nothing is written below the mount point");
    let store = on_disk(root.path(), true);
    let see = |join: &Join, store: &Store| look(&around_it, join, store).map(|(local, _)| local);
    assert_eq!(see(&server(), &store).unwrap(), Local { here: Here::Nothing, was_ready: false });
    // k3s writes through the link.
    put(root.path(), &format!("{DATABASE}/etcd/member/wal/0.wal"), "");
    assert!(root.path().join("mnt/db/k3s-server/db/etcd/member/wal/0.wal").exists());
    was_ready(&around_it, &server(), &store);
    // The node is flashed again: all of /var is new.
    fs::remove_dir_all(root.path().join("var")).unwrap();
    assert_eq!(see(&server(), &store).unwrap(), Local { here: Here::Etcd, was_ready: true });
    // It is another node's, or another cluster's.
    let other = Join { node: "k3s9".to_owned(), ..server() };
    let trouble = look(&around_it, &other, &store).unwrap_err();
    assert_eq!(trouble.cause, Cause::ForeignDatastore);
    assert!(trouble.said().contains("node k3s2 of cluster demo"), "{}", trouble.said());
    let other = Join { cluster: "prod".to_owned(), ..server() };
    assert_eq!(see(&other, &store).unwrap_err().cause, Cause::ForeignDatastore);
    // The disk is gone at a later boot: the link leads nowhere, and that is not an empty datastore.
    let gone = on_disk(root.path(), false);
    assert_eq!(see(&server(), &gone).unwrap_err().cause, Cause::NoDisk);
    fs::remove_dir_all(root.path().join("mnt/db")).unwrap();
    assert_eq!(see(&server(), &Store::default()).unwrap_err().cause, Cause::DatastoreUnread);
}

#[test]
fn a_datastore_in_var_is_not_hidden_by_an_empty_disk() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), &format!("{DATABASE}/state.db"), "x");
    let store = on_disk(root.path(), true);
    let trouble = look(&around(root.path()), &server(), &store).unwrap_err();
    assert_eq!(trouble.cause, Cause::DatastoreInTheWay);
    assert!(root.path().join("var/lib/rancher/k3s/server/db/state.db").exists());
}

#[test]
fn mount_points_are_whole_and_escaped() {
    let root = tempfile::tempdir().unwrap();
    put(
        root.path(),
        "proc/self/mountinfo",
        "1 2 8:1 / /mnt/db rw - ext4 a rw\n1 2 8:1 / /mnt/a\\040b rw - ext4 a rw\n",
    );
    let around = around(root.path());
    let found = ["/mnt/db", "/mnt/db/", "/mnt", "/mnt/d", "/mnt/a b"]
        .map(|place| is_mounted(&around, place).unwrap());
    assert_eq!(found, [true, true, false, false, true]);
}

#[test]
fn what_k3s_is_told() {
    let root = tempfile::tempdir().unwrap();
    let (around, join) = (around(root.path()), server());
    let path = root.path().join(CONFIG.trim_start_matches('/'));
    let read = || {
        fs::read_to_string(&path).unwrap().lines().skip(1).map(|line| format!("{line}\n")).collect::<String>()
    };
    tell(&around, &join, Told::Nothing).unwrap();
    assert!(!path.exists());
    tell(&around, &join, Told::Init).unwrap();
    assert_eq!(read(), "cluster-init: true\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let six = Endpoint { host: "fd00::2".to_owned(), port: 6443 };
    tell(&around, &join, Told::Server(&six)).unwrap();
    assert_eq!(read(), "server: \"https://[fd00::2]:6443\"\ntoken-file: \"/etc/rancher/k3s/token\"\n");
    tell(&around, &join, Told::Nothing).unwrap();
    assert!(!path.exists());
}

#[test]
fn sqlite_is_copied_before_it_is_turned_and_a_cut_begins_again() {
    let root = tempfile::tempdir().unwrap();
    let around = around(root.path());
    let at = |name: &str| root.path().join(DATABASE.trim_start_matches('/')).join(name);
    put(root.path(), &format!("{DATABASE}/state.db"), "rows");
    put(root.path(), &format!("{DATABASE}/state.db-wal"), "more");
    copied(&around, Here::Sqlite).unwrap();
    let read = |name: &str| fs::read_to_string(at(name)).unwrap();
    assert_eq!(
        (read("kiln-sqlite/state.db"), read("kiln-sqlite/state.db-wal")),
        ("rows".to_owned(), "more".to_owned())
    );
    assert!(at("kiln-turning").exists() && at("state.db").exists() && !at("kiln-copy").exists());
    // k3s was cut while it filled etcd.
    put(root.path(), &format!("{DATABASE}/etcd/member/wal/0.wal"), "half");
    copied(&around, Here::HalfTurned).unwrap();
    assert!(!at("etcd").exists() && at("kiln-half-etcd/member/wal/0.wal").exists());
    // Once more: no copy is overwritten.
    copied(&around, Here::Sqlite).unwrap();
    assert!(at("kiln-sqlite-2/state.db").exists() && at("kiln-sqlite/state.db").exists());
    let join = server();
    was_ready(&around, &join, &Store::default());
    assert!(!at("kiln-turning").exists());
}

/// Why a datastore is empty: by what the state says of the past, and by who made a data disk.
#[test]
fn who_emptied_a_datastore() {
    let made = r#"{"version":1,"kiln":"0","cluster":"demo","node":"k3s2","boot_id":"b","began":0,"ended":1,"steps":[],"problems":[],
        "plan":{"problems":[],"disks":[{"disk":"sdb","action":{"provision":{"rule":"r","slot":"db","usage":"mount"}}}]}}"#;
    let why = |on_disk: bool, was_ready: bool, records: &[&str], ready: bool| {
        let root = tempfile::tempdir().unwrap();
        let around = around(root.path());
        for record in records {
            put(root.path(), record, made);
        }
        let store = if on_disk { self::on_disk(root.path(), true) } else { Store::default() };
        let join = Join { store: Some(store.clone()), ..server() };
        let mut story = Story::resume(&around, &TITLE, ("demo", "k3s2"));
        look(&around, &join, &store).unwrap();
        super::aged(&around, &join, (&mut story.progress, 1000));
        put(root.path(), "proc/uptime", "300.55 1.0\n");
        super::aged(&around, &join, (&mut story.progress, 2000));
        if ready {
            super::was_ready(&around, &join, &store);
        }
        if was_ready {
            story.joined();
        }
        super::emptied(&around, &join, &story.progress).unwrap()
    };
    let (boot, first) = (BOOT_RECORD, RECORD);
    for (on_disk, was_ready, records, ready, want) in [
        (false, false, vec![], false, Emptied::Made),
        (false, true, vec![], false, Emptied::BySomebody),
        (false, true, vec![boot, first], false, Emptied::BySomebody),
        (true, false, vec![], false, Emptied::BySomebody),
        (true, true, vec![boot], false, Emptied::Made),
        (true, false, vec![boot], false, Emptied::Made),
        (true, false, vec![first], false, Emptied::Made),
        // A disk of an earlier boot, and the node was Ready since.
        (true, true, vec![first], false, Emptied::BySomebody),
        (true, true, vec![boot], true, Emptied::BySomebody),
    ] {
        assert_eq!(
            why(on_disk, was_ready, &records, ready),
            (want, Some(1000)),
            "{on_disk} {was_ready} {records:?}"
        );
    }
    let root = tempfile::tempdir().unwrap();
    put(root.path(), &format!("{DATABASE}/etcd/member/wal/0.wal"), "");
    let around = around(root.path());
    let story = Story::resume(&around, &TITLE, ("demo", "k3s2"));
    assert_eq!(super::emptied(&around, &server(), &story.progress).unwrap().0, Emptied::Not);
}

/// What was made here was made after the boot began.
#[test]
fn a_state_is_as_old_as_its_boot() {
    let root = tempfile::tempdir().unwrap();
    let around = around(root.path());
    put(root.path(), "proc/uptime", "300.55 1.0\n");
    let mut story = Story::resume(&around, &TITLE, ("demo", "k3s2"));
    super::aged(&around, &server(), (&mut story.progress, 1000));
    super::aged(&around, &server(), (&mut story.progress, 5000));
    assert_eq!(story.progress.made, Some(700));
}
