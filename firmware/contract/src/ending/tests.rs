use super::{Known, clean, last_words};
use proptest::prelude::{any, prop, proptest};

fn fatal(said: &str) -> String {
    format!(
        "time=\"2026-11-28T10:00:00Z\" level=info msg=\"Starting k3s v1.34.3+k3s1\"\ntime=\"2026-11-28T10:00:01Z\" level=fatal msg={said:?}\n"
    )
}

/// Lines of k3s v1.34.3+k3s1 and of systemd 257.
#[test]
fn what_is_known_is_known() {
    let table = [
        (
            "preparing server: failed to bootstrap cluster data: etcd disabled",
            Some((Known::EtcdDisabled, true)),
        ),
        (
            "starting kubernetes: preparing server: start managed database: etcd cluster join failed: duplicate node name found, please use a unique name for this node",
            Some((Known::DuplicateName, false)),
        ),
        (
            "starting kubernetes: preparing server: bootstrap data already found and encrypted with different token",
            Some((Known::OtherToken, false)),
        ),
        ("failed to find memory cgroup (v2)", Some((Known::NoCgroup, false))),
        ("apiserver exited: unable to select an IP from default routes.", Some((Known::NoRoute, true))),
        (
            "extracting data: write /var/lib/rancher/k3s/data/x/bin/k3s: no space left on device",
            Some((Known::DiskFull, true)),
        ),
        ("listen tcp :6443: bind: address already in use", Some((Known::PortTaken, false))),
        ("starting kubernetes: something that nobody has seen", None),
    ];
    for (said, known) in table {
        let ending = last_words(&fatal(said), &[]).unwrap();
        assert_eq!((ending.quote.as_str(), ending.known.map(|known| (known, known.heals()))), (said, known));
    }
}

#[test]
fn a_shutdown_request_is_not_hidden_by_what_follows_from_it() {
    let request = "time=\"2026-11-28T10:00:01Z\" level=error msg=\"Shutdown request received: \\\"kubelet exited: failed to run Kubelet: no \\\\\\\"x\\\\\\\"\\\"\"\n";
    let cancelled = "time=\"2026-11-28T10:00:02Z\" level=fatal msg=\"starting kubernetes: preparing server: context canceled\"\n";
    let exited = "k3s.service: Main process exited, code=exited, status=1/FAILURE\n";
    let ending = last_words(&[request, cancelled, exited].concat(), &[]).unwrap();
    assert_eq!(ending.quote, "kubelet exited: failed to run Kubelet: no \"x\"");
    assert_eq!(ending.known, Some(Known::KubeletEnded));
    // A later start's own end does.
    let ending = last_words(&[request, cancelled, &fatal("etcd disabled")].concat(), &[]).unwrap();
    assert_eq!(ending.known, Some(Known::EtcdDisabled));
    // Alone it is better than nothing; who is stopped by somebody has no cause.
    assert!(last_words(cancelled, &[]).unwrap().quote.ends_with("context canceled"));
    assert_eq!(last_words("time=\"x\" level=info msg=\"Shutdown request received\"\n", &[]), None);
    assert_eq!(last_words("time=\"x\" level=error msg=\"something else\"\nplain\n", &[]), None);
}

#[test]
fn what_systemd_says_of_a_program_that_can_not_start() {
    let text = "k3s.service: Failed to execute /usr/bin/k3s: Exec format error\nk3s.service: Failed at step EXEC spawning /usr/bin/k3s: Exec format error\nk3s.service: Main process exited, code=exited, status=203/EXEC\n";
    let ending = last_words(text, &[]).unwrap();
    assert_eq!(ending.quote, "k3s.service: Failed at step EXEC spawning /usr/bin/k3s: Exec format error");
    assert_eq!(ending.known, Some(Known::WrongFormat));
    let killed = last_words("k3s.service: Main process exited, code=killed, status=9/KILL\n", &[]).unwrap();
    assert_eq!(killed.known, Some(Known::Killed));
    assert_eq!(last_words("k3s.service: Main process exited, code=exited, status=0/SUCCESS\n", &[]), None);
}

#[test]
fn every_row_is_found_by_its_own_words() {
    for known in Known::ALL {
        for part in known.parts() {
            assert_eq!(Known::of(&format!("starting kubernetes: {part} (x)")), Some(*known), "{part}");
        }
        assert!(!known.way_out().ends_with('.') && known.way_out().len() > 20, "{known:?}");
    }
}

#[test]
fn secrets_are_taken_out() {
    let table = [
        ("bad token K10aaaa::server:s3cret-value, sorry", "bad token K10…, sorry"),
        (
            "dial postgres://kine:p@ss/w0rd@10.0.0.9:5432/k3s: refused",
            "dial postgres://…@10.0.0.9:5432/k3s: refused",
        ),
        ("kine:hunter2@tcp(10.0.0.9:3306)/k3s: no", "…@tcp(10.0.0.9:3306)/k3s: no"),
        ("k3s server --token abc --node-name x", "k3s server --token … --node-name x"),
        ("K3S_AGENT_TOKEN=abc password=\"two words\" x", "K3S_AGENT_TOKEN=… password=\"…\" x"),
        ("{\"password\":\"abc\"}", "{\"password\":\"…\"}"),
        ("Authorization: Basic c2VydmVyOng= and Bearer abc", "Authorization: Basic … and Bearer …"),
        ("-----BEGIN EC PRIVATE KEY----- MHc", "…"),
        ("node password 00112233445566778899aabbccddeeff of a", "node password … of a"),
        ("token eyJhbGci.eyJpc3Mi.c2ln!", "token …"),
        ("my own pass word is kept", "… is kept"),
        ("--token \"a b\" --x", "--token \"…\" --x"),
        ("\"password\": \"a b\", \"user\": \"c\"", "\"password\": \"…\", \"user\": \"c\""),
        ("postgres://u:p,(w@10.0.0.9/k3s", "postgres://…@10.0.0.9/k3s"),
        // Words stay.
        ("--token \"\" is empty", "--token \"\" is empty"),
        (
            "failed to validate token: token CA hash does not match",
            "failed to validate token: token CA hash does not match",
        ),
        (
            "etcd member 8e9e05c52164694d at https://10.0.0.1:2380",
            "etcd member 8e9e05c52164694d at https://10.0.0.1:2380",
        ),
        ("encrypted with different token", "encrypted with different token"),
    ];
    for (said, cleaned) in table {
        assert_eq!(clean(said, &["my own pass word", "it"]), cleaned);
    }
}

#[test]
fn a_quote_is_one_line_and_not_a_page() {
    let ending = last_words(&fatal(&format!("a\u{1b}[2J\nb{}", "x ".repeat(1000))), &[]).unwrap();
    assert!(ending.quote.chars().count() <= 401 && ending.quote.ends_with('…'), "{}", ending.quote);
    assert!(!ending.quote.contains(|c: char| c.is_control()), "{}", ending.quote);
}

proptest! {
    #[test]
    fn any_journal_is_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = last_words(&text, &["secret"]);
        let _ = last_words(&format!("level=fatal msg=\"{text}"), &["secret"]);
    }

    #[test]
    fn a_known_secret_is_never_quoted(before in "[ -~]{0,40}", secret in "[!-~]{6,30}", after in "[ -~]{0,40}") {
        let ending = last_words(&fatal(&format!("{before}{secret}{after}")), &[&secret]);
        // Hidden words may be put together anew only where the secret is of the mark's own letters.
        let quote = ending.map(|ending| ending.quote).unwrap_or_default();
        assert!(!quote.contains(&secret) || before.contains(&secret) || after.contains(&secret), "{quote}");
    }
}
