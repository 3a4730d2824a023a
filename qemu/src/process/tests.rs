//! Machines that really run: boot sectors made here.

use crate::{
    Accelerator, Bus, Cache, Disk, Error, Fault, Firmware, Format, Link, Machine, Network, Operation,
    Running, Source, Tpm, Wanted, create_sparse,
};
use serde_json::json;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A boot sector that writes `text` to the first serial port, echoes one key, and then halts or, when that key is
/// `q`, resets the machine through the keyboard controller. Real-mode machine code (Intel SDM, volume 2).
fn talker(folder: &Path, text: &str) -> Machine {
    let mut code = vec![
        0xfa, // cli
        0xfc, // cld
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x40, 0x7c, // mov si, 0x7c40 (the text)
        0xba, 0xf8, 0x03, // mov dx, 0x3f8 (transmitter of COM1)
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz wait
        0xee, // out dx, al
        0xeb, 0xf8, // jmp next
        0xba, 0xfd, 0x03, // wait: mov dx, 0x3fd (line status)
        0xec, // poll: in al, dx
        0xa8, 0x01, // test al, 1 (data ready)
        0x74, 0xfb, // jz poll
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xec, // in al, dx
        0xee, // out dx, al
        0x3c, b'q', // cmp al, 'q'
        0x75, 0x04, // jne halt
        0xb0, 0xfe, // mov al, 0xfe (pulse the reset line)
        0xe6, 0x64, // out 0x64, al
        0xf4, // halt: hlt
        0xeb, 0xfd, // jmp halt
    ];
    assert!(code.len() <= 0x40);
    code.resize(0x40, 0);
    code.extend_from_slice(text.as_bytes());
    assert!(code.len() < 510);
    code.resize(512, 0);
    code[510..].copy_from_slice(&[0x55, 0xaa]);
    // A disk with no whole cylinder is none to the BIOS.
    code.resize(1 << 20, 0);
    let image = folder.join("talker.img");
    fs::write(&image, code).unwrap();
    Machine {
        cpus: 1,
        memory_mib: 32,
        disks: vec![Disk::virtio(Source::image(image))],
        ports: vec!["silent".to_owned()],
        ..Machine::new(Firmware::Bios, Accelerator::Tcg)
    }
}

#[test]
fn a_guest_is_heard_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = talker(folder.path(), "\x1b[32mhello\x1b[0m world\r\nkey: ");
    machine.disks.push(Disk::virtio(Source::Empty { bytes: 20 << 30 }));
    let mut running = machine.start().expect("this test needs qemu: apt-get install qemu-system-x86 ovmf");
    assert_eq!(running.expect("hello", soon()).unwrap(), "hello world");
    let seen = running.expect_any(&["hello", "key: "], soon()).unwrap();
    assert_eq!((seen.which, &seen.line[..]), (1, "key: "));
    running.send("q").unwrap();
    // The key comes back, and the reset ends the machine: nothing reboots.
    let error = running.expect("nothing more", soon()).unwrap_err();
    assert!(
        matches!(&error, Error::Ended { status, tail, .. } if status.success() && tail.ends_with("key: q")),
        "{error}"
    );
    assert!(running.console().starts_with("hello world\n") || running.console().contains("\nhello world\n"));
}

#[test]
fn a_deadline_shows_the_console() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = talker(folder.path(), "I have nothing to say\r\n").start().unwrap();
    running.expect("nothing", soon()).unwrap();
    let start = Instant::now();
    let wanted = [Wanted::Console("more"), Wanted::Port("silent")];
    let error = running.wait_for(&wanted, start + Duration::from_millis(300)).unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!(error.contains("\"more\" on the console or a line from port silent"), "{error}");
    assert!(error.contains("  | I have nothing to say"), "{error}");
    assert!(matches!(running.line("none", soon()), Err(Error::NotCaptured(_))));
}

#[test]
fn it_dies_with_its_owner_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = talker(folder.path(), "here\r\n").start().unwrap();
    let files = running.folder.as_ref().unwrap().path().to_owned();
    assert!(files.exists());
    running.expect("here", soon()).unwrap();
    // Not even a killed owner leaves files behind once the guest runs.
    let process = format!("/proc/{}", running.id());
    assert!(Path::new(&process).exists() && !files.exists());
    drop(running);
    assert!(!Path::new(&process).exists());
}

#[test]
fn qemu_says_why_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine { smbios: vec!["type=none".to_owned()], ..talker(folder.path(), "") };
    let error = machine.start().unwrap_err();
    assert!(
        matches!(&error, Error::Ended { status, stderr, .. } if !status.success() && stderr.contains("type")),
        "{error}"
    );

    let machine =
        Machine { disks: vec![Disk::virtio(Source::image("/nowhere.img"))], ..talker(folder.path(), "") };
    let error = machine.start().unwrap_err().to_string();
    assert!(error.starts_with("the disk image /nowhere.img can't be read"), "{error}");
}

/// What the guest writes to an image with an overlay never arrives there; the firmware's variables, too, are a copy.
#[test]
fn uefi_runs_on_copies() {
    let folder = tempfile::tempdir().unwrap();
    let firmware = Firmware::find().expect("this test needs OVMF: apt-get install ovmf");
    let Firmware::Uefi { vars, .. } = &firmware else { panic!("UEFI is wanted") };
    let before = fs::read(vars).unwrap();
    let image = folder.path().join("empty.img");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let machine = Machine {
        disks: vec![Disk::virtio(Source::image(&image))],
        memory_mib: 256,
        ..Machine::new(firmware.clone(), Accelerator::Tcg)
    };
    let mut running = machine.start().unwrap();
    running.expect_any(&["BdsDxe", "UEFI"], Instant::now() + Duration::from_secs(90)).unwrap();
    drop(running);
    assert_eq!(fs::read(vars).unwrap(), before);
    assert!(fs::read(&image).unwrap().iter().all(|byte| *byte == 0));
}

/// Every bus with every fact that it has, TPM, link and commands: QEMU takes all of it and does what it is told.
#[test]
fn qemu_takes_what_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("card.img");
    create_sparse(&path, 1 << 30).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (1 << 30, 0));
    let text = |value: &str| Some(value.to_owned());
    let mut disks = vec![Disk::new(Source::file(&path), Bus::Sd)];
    for bus in [Bus::Virtio, Bus::Nvme, Bus::Ahci, Bus::Usb, Bus::Scsi] {
        let large = bus.has_large_sectors();
        let both = matches!(bus, Bus::Ahci | Bus::Scsi);
        disks.push(Disk {
            serial: text("serial"),
            sector_size: if large { 4096 } else { 512 },
            model: if both { text("model") } else { None },
            revision: if both { text("1.0") } else { None },
            wwn: both.then_some(0x5000_c500_a1b2_c3d4),
            rotation_rate: both.then_some(7200),
            removable: (bus == Bus::Scsi).then_some(true),
            read_only: bus != Bus::Ahci,
            discard: false,
            hot_plug: bus != Bus::Ahci,
            faults: vec![Fault { bytes: Some(0..8192), ..Fault::every(Operation::Read) }],
            ..Disk::new(Source::Empty { bytes: 1 << 20 }, bus)
        });
    }
    let (link, _) = Link::pair("02:00:00:00:00:01", "02:00:00:00:00:02").unwrap();
    let mut machine = talker(folder.path(), "here\r\n");
    machine.disks.extend(disks);
    machine.cards = vec![Network::default().into(), link.into()];
    machine.tpm = Some(Tpm { state: folder.path().join("tpm") });
    machine.control = true;
    let mut running = machine.start().expect("this test needs swtpm: apt-get install swtpm");
    running.expect("here", soon()).unwrap();
    let block = running.execute("query-block", &json!({})).unwrap();
    assert_eq!(block.as_array().unwrap().len(), machine.disks.len(), "{block:#}");
    let read_only = block.as_array().unwrap().iter().filter(|disk| disk["inserted"]["ro"] == true).count();
    assert_eq!(read_only, 4, "{block:#}");
    let tpm = running.execute("query-tpm", &json!({})).unwrap();
    assert_eq!(tpm[0]["model"], "tpm-tis", "{tpm:#}");
    // The machine's own USB stick and SCSI disk go without the guest's help.
    for index in [5, 6] {
        running.unplug(index, soon()).unwrap();
    }
    let refused = running.unplug(4, soon()).unwrap_err().to_string();
    assert!(refused.starts_with("the machine refused device_del:"), "{refused}");
    running.execute("stop", &json!({})).unwrap();
    assert_eq!(running.execute("query-status", &json!({})).unwrap()["status"], "paused");
    running.execute("cont", &json!({})).unwrap();
    let start = Instant::now();
    running.kill().unwrap();
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert!(folder.path().join("tpm/tpm2-00.permall").is_file());
}

/// A machine that may reboot says its words again; one that is told to quit ends.
#[test]
fn a_reset_is_no_end_where_it_may_reboot() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine { reboot: true, control: true, ..talker(folder.path(), "here\r\nkey: ") };
    let mut running = machine.start().unwrap();
    running.expect("key: ", soon()).unwrap();
    running.send("q").unwrap();
    running.expect("key: ", soon()).unwrap();
    running.execute("system_reset", &json!({})).unwrap();
    running.event("RESET", soon()).unwrap();
    running.expect("key: ", soon()).unwrap();
    running.execute("quit", &json!({})).unwrap();
    assert!(running.wait_until(soon()).unwrap().success());
    // A machine without the socket says so.
    let mut running = talker(folder.path(), "here").start().unwrap();
    assert!(matches!(running.execute("stop", &json!({})), Err(Error::NotCaptured(_))));
}

/// Has QEMU itself do what a guest could have asked disk 1 for.
fn request(running: &mut Running, words: &str) {
    let command = format!("qemu-io disk1 \"{words}\"");
    running.execute("human-monitor-command", &json!({"command-line": command})).unwrap();
}

/// A machine with `disk` as its disk 1.
fn with_disk(folder: &Path, disk: Disk) -> Running {
    let mut machine = talker(folder, "here");
    machine.disks.push(disk);
    machine.control = true;
    machine.start().unwrap()
}

/// What was written before the power went is in the file, and the next machine goes on with it.
#[test]
fn files_outlive_a_power_cut() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw.img");
    create_sparse(&raw, 1 << 20).unwrap();
    let qcow2 = folder.path().join("disk.qcow2");
    let mut create = Command::new("qemu-img");
    assert!(create.args(["create", "-q", "-f", "qcow2"]).arg(&qcow2).arg("1M").status().unwrap().success());
    for (path, format) in [(&raw, Format::Raw), (&qcow2, Format::Qcow2)] {
        for cache in [Cache::Writeback, Cache::Unsafe] {
            let source = Source::File { path: path.clone(), format, cache };
            let place = if cache == Cache::Writeback { "4096" } else { "524288" };
            let mut running = with_disk(folder.path(), Disk::virtio(source));
            request(&mut running, &format!("write -P 7 {place} 512"));
            request(&mut running, "flush");
            running.kill().unwrap();
        }
    }
    let converted = folder.path().join("converted.img");
    let mut convert = Command::new("qemu-img");
    assert!(convert.args(["convert", "-O", "raw"]).arg(&qcow2).arg(&converted).status().unwrap().success());
    for path in [raw, converted] {
        let bytes = fs::read(path).unwrap();
        let wanted = |at: usize| (4096..4608).contains(&at) || (524_288..524_800).contains(&at);
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == if wanted(at) { 7 } else { 0 }));
    }
}

#[test]
fn faults_hit_what_they_are_meant_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let write = Fault::every(Operation::Write);
    // Four writes of four sectors each, one after the other; which of them arrive.
    for (fault, arrives) in [
        (Fault { bytes: Some(2048..2049), ..write.clone() }, [true, false, true, true]),
        (Fault { bytes: Some(4095..6144), ..write.clone() }, [true, false, false, true]),
        (Fault { after: 3, ..write.clone() }, [true, true, true, false]),
        (Fault { after: 1, bytes: Some(0..6144), ..write.clone() }, [true, false, false, true]),
        (write, [false; 4]),
        (Fault::every(Operation::Read), [true; 4]),
    ] {
        create_sparse(&path, 1 << 20).unwrap();
        let disk = Disk { faults: vec![fault.clone()], ..Disk::virtio(Source::file(&path)) };
        let mut running = with_disk(folder.path(), disk);
        for index in 0..4 {
            request(&mut running, &format!("write -P 7 {} 2048", index * 2048));
        }
        running.kill().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!([0, 1, 2, 3].map(|index| bytes[index * 2048] == 7), arrives, "{fault:?}");
    }
}

/// A frame of the guest's card arrives at the link's other side, with the card's address as its sender.
#[test]
fn a_link_carries_frames() {
    let folder = tempfile::tempdir().unwrap();
    let (link, other) = Link::pair("02:00:00:00:00:01", "02:00:00:00:00:02").unwrap();
    assert_eq!((link.local, link.remote), (other.remote, other.local));
    let side = UdpSocket::bind((Ipv4Addr::LOCALHOST, other.local)).unwrap();
    side.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut machine = talker(folder.path(), "here");
    machine.cards = vec![Network::default().into(), link.into()];
    machine.control = true;
    let mut running = machine.start().unwrap();
    let times = json!({"initial": 50, "max": 50, "rounds": 5, "step": 1});
    running.execute("announce-self", &times).unwrap();
    let mut frame = [0; 2048];
    let length = side.recv(&mut frame).unwrap();
    // Destination, sender, and RARP's EtherType (RFC 903).
    assert!(length >= 14);
    assert_eq!(frame[..6], [0xff; 6]);
    assert_eq!(frame[6..14], [2, 0, 0, 0, 0, 1, 0x80, 0x35]);
}

#[test]
fn a_disk_fails_from_a_moment_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    for cache in [Cache::Unsafe, Cache::Writeback] {
        create_sparse(&path, 1 << 20).unwrap();
        let source = Source::File { path: path.clone(), format: Format::Raw, cache };
        let mut running = with_disk(folder.path(), Disk::virtio(source));
        request(&mut running, "write -P 7 0 4096");
        running.fail(1, &[Operation::Write, Operation::Flush]).unwrap();
        request(&mut running, "write -P 9 0 512");
        request(&mut running, "write -P 9 4096 512");
        running.kill().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!((bytes[0], bytes[4096]), (7, 0));
    }
    // The boot sector's own disk is an image, and the third is none.
    let mut running = with_disk(folder.path(), Disk::virtio(Source::Empty { bytes: 1 << 20 }));
    for index in [0, 1, 2] {
        assert!(running.fail(index, &[Operation::Read]).is_err());
    }
}
