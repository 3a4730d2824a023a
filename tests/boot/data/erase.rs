//! Disks that may be emptied: a person at the console has the last word.

use super::{BYTES, COUNTDOWN, OLD, boot_with, fresh, is_ready, kernel, site, wrote_nothing};
use crate::disks::{content, data, folder};
use crate::early::{to_the_end, until_system_with};
use crate::foreign::Foreign;
use crate::nodes::patience;
use kiln_qemu::{Bus, Disk};

#[test]
fn a_key_stops_what_time_alone_lets_happen() {
    let _images = site();
    let folder = folder();
    let (path, disk) = data(folder.path(), "old.img", BYTES, Bus::Virtio);
    assert!(Foreign::Ext4.make(&path));
    let disk = Disk { serial: Some(OLD.to_owned()), ..disk };
    let before = content(&path, &[]);

    // Nobody's finger is faster than a guest on a busy host.
    let disks = [fresh(&site(), "old"), disk.clone()];
    let mut running =
        until_system_with(&kernel(&site(), "old"), &disks, "kiln.countdown=120").start().unwrap();
    running.expect(COUNTDOWN, patience()).unwrap();
    running.send("x").unwrap();
    let stopped = to_the_end(running, |_, _| ());
    assert_eq!(content(&path, &[]), before, "{}", stopped.console);
    wrote_nothing(&stopped);
    for words in
        ["ERASE, then format as old", "DATA IS LOST on: vdb.", "Nothing was written to the disks above."]
    {
        assert!(stopped.console.contains(words), "{words:?} is not in\n{}", stopped.console);
    }
    let [problem] = stopped.failed()[..] else { panic!("{:?}\n{}", stopped.failed(), stopped.console) };
    assert!(problem.contains("a key stopped what would have emptied disks"), "{problem}");

    let emptied = boot_with("old", std::slice::from_ref(&disk), "kiln.countdown=3");
    assert_eq!(emptied.failed(), [""; 0], "{}", emptied.console);
    assert!(emptied.done().contains(&"erase vdb".to_owned()), "{:?}", emptied.done());
    for words in ["kiln: 3 s until", "kiln: 1 s until", "no key was pressed within 3 s"] {
        assert!(emptied.console.contains(words), "{words:?} is not in\n{}", emptied.console);
    }
    is_ready(&path, "old", "old");

    // What is ready is no question any more, although its serial number is still listed.
    let ready = content(&path, &[]);
    let kept = boot_with("old", &[disk], "kiln.countdown=120");
    assert_eq!(kept.failed(), [""; 0], "{}", kept.console);
    assert!(!kept.console.contains(COUNTDOWN), "{}", kept.console);
    assert_eq!(content(&path, &[]), ready, "{}", kept.console);
}
