//! Machines that really run: boot sectors made here.

use crate::{Accelerator, Disk, Error, Firmware, Machine, Seen, Source, Wanted};
use std::fs;
use std::path::Path;
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
    assert_eq!(seen, Seen { which: 1, line: "key: ".to_owned() });
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
