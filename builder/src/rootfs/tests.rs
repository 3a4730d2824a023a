//! Finalisers on small made-up packages.

use super::formats::deb::{Control, ControlFile};
use super::formats::tree::{Entry, Kind, Tree};
use super::{Error, Options, Unpacked, assemble, residues, seal};
use proptest::prelude::proptest;

/// A package with files (`path=text`, `path->target`, `path/` for a directory) and control members.
fn package(name: &str, files: &[&str], members: &[(&str, &str)]) -> Unpacked {
    let mut tree = Tree::new();
    for file in files {
        let (path, entry) = match (file.split_once("->"), file.split_once('=')) {
            (Some((path, to)), _) => (path, Entry::symlink(to)),
            (None, Some((path, text))) => (path, Entry::file(text.as_bytes().to_vec())),
            (None, None) => (file.trim_end_matches('/'), Entry::directory()),
        };
        tree.make_parents(path, &Entry::directory());
        tree.insert(path, entry);
    }
    let mut control = Control::default();
    let fields = format!("Package: {name}\nVersion: 1\nArchitecture: all\nDescription: made up\n lines\n");
    for (member, text) in [("control", fields.as_str())].iter().chain(members) {
        let file = control
            .files
            .entry((*member).to_owned())
            .or_insert(ControlFile { mode: 0o644, bytes: Vec::new() });
        file.bytes.extend(text.as_bytes());
    }
    Unpacked { name: name.to_owned(), version: "1".to_owned(), architecture: "all".to_owned(), control, tree }
}

/// A postinst whose commands count although no table lists it.
fn helper(kind: &str, commands: &str) -> String {
    format!(
        "#!/bin/sh\nset -e\n# Automatically added by {kind}/13\n{commands}\n# End automatically added section\n"
    )
}

fn base() -> Unpacked {
    package("base-files", &["bin->usr/bin", "lib->usr/lib", "usr/bin/", "usr/lib/", "etc/", "var/run/"], &[])
}

fn accounts() -> Unpacked {
    let passwd = "usr/share/base-passwd/passwd.master=root:*:0:0:root:/root:/bin/bash\n";
    let group = "usr/share/base-passwd/group.master=root:*:0:\nshadow:*:42:\nnogroup:*:65534:\n";
    package("base-passwd", &[passwd, group], &[])
}

fn options() -> Options {
    Options {
        source_date: 86400 * 100,
        architecture: "amd64".to_owned(),
        scripts_skip: Vec::new(),
        threads: 2,
    }
}

fn made(packages: &[Unpacked]) -> Tree {
    assemble(packages, &options()).unwrap_or_else(|error| panic!("{error}"))
}

fn text(tree: &Tree, path: &str) -> String {
    match &tree.get(path).unwrap_or_else(|| panic!("no {path}")).kind {
        Kind::File(content) => String::from_utf8(content.read().unwrap()).unwrap(),
        Kind::Symlink(to) => format!("-> {}", String::from_utf8_lossy(to)),
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn merged_usr_is_followed_and_order_is_nothing() {
    let one = package("one", &["bin/tool=x", "lib/lib.so=y"], &[]);
    let trees = [made(&[base(), one.clone()]), made(&[one, base()])];
    for tree in &trees {
        assert_eq!(text(tree, "bin"), "-> usr/bin");
        assert_eq!(text(tree, "usr/bin/tool"), "x");
        assert!(!tree.contains("bin/tool"));
        assert!(text(tree, "var/lib/dpkg/info/one.list").contains("/bin/tool\n"));
    }
    assert!(trees[0].iter().map(|(path, _)| path).eq(trees[1].iter().map(|(path, _)| path)));
}

#[test]
fn two_owners_of_a_path_are_a_conflict_unless_one_replaces() {
    let one = package("one", &["etc/x=1"], &[]);
    let error = assemble(&[base(), one.clone(), package("two", &["etc/x=2"], &[])], &options()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "one and two both ship /etc/x, and neither declares that it replaces the other; leave one out"
    );
    for replacing in ["one", "one (<< 2)", "zero, one"] {
        let two = package("two", &["etc/x=2"], &[("control", &format!("Replaces: {replacing}\n"))]);
        let tree = made(&[base(), one.clone(), two]);
        assert_eq!(text(&tree, "etc/x"), "2");
        assert!(!text(&tree, "var/lib/dpkg/info/one.list").contains("/etc/x\n"), "{replacing}");
    }
    assert!(assemble(&[base(), one, package("two", &["etc/x/"], &[])], &options()).is_err());
}

#[test]
fn unknown_scripts_are_refused_by_name() {
    let odd = package("odd", &[], &[("postinst", "#!/bin/sh\nset -e\nrm -rf /etc/odd\n")]);
    let error = assemble(&[base(), odd.clone()], &options()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("odd (postinst); leave them out, or write `base: { scripts: { odd: skip } }`"),
        "{error}"
    );
    assert_eq!(
        residues(std::slice::from_ref(&odd))[0].text,
        "#!/bin/sh\nset -e\nrm -rf /etc/odd\n".lines().nth(2).unwrap()
    );
    let skip = Options { scripts_skip: vec!["odd".to_owned()], ..options() };
    assert!(assemble(&[base(), odd], &skip).is_ok());
    let plain = package("plain", &[], &[("postinst", &helper("dh_python3", "py3compile -p plain"))]);
    assert!(assemble(&[base(), plain], &options()).is_ok());
    let unheard = package("unheard", &[], &[("preinst", &helper("dh_unheard", "mystery"))]);
    assert!(matches!(assemble(&[base(), unheard], &options()), Err(Error::Uncovered(_))));
}

#[test]
fn profiles_have_their_local_files_and_idle_ones_are_off() {
    let section = |name: &str| {
        helper(
            "dh_apparmor",
            &format!(
                "APP_PROFILE=\"/etc/apparmor.d/{name}\"\nLOCAL_APP_PROFILE=\"/etc/apparmor.d/local/{name}\""
            ),
        )
    };
    let files = [
        "etc/apparmor.d/here=profile here /{,usr/}bin/tool {",
        "etc/apparmor.d/gone=profile gone /usr/bin/gone {",
        "etc/apparmor.d/some=profile some /usr/lib/@{multiarch}/lib*.so {",
        "etc/apparmor.d/none=profile none /usr/lib/@{multiarch}/qt {",
        "etc/apparmor.d/asked=profile asked {",
        "usr/lib/x/libx.so=x",
        "usr/bin/tool=x",
    ];
    let scripts = section("here") + &section("absent");
    let tree = made(&[base(), package("apparmor", &files, &[("postinst", &scripts)])]);
    assert_eq!(text(&tree, "etc/apparmor.d/local/here"), "");
    assert!(!tree.contains("etc/apparmor.d/local/absent"));
    let off = |name: &str| tree.contains(&format!("etc/apparmor.d/disable/{name}"));
    assert_eq!(["here", "gone", "some", "none", "asked"].map(off), [false, true, false, true, false]);
    assert_eq!(text(&tree, "etc/apparmor.d/disable/gone"), "-> /etc/apparmor.d/gone");
    // Without the parser nobody reads them.
    let tree = made(&[base(), package("chrony", &files, &[("postinst", &scripts)])]);
    assert!(tree.contains("etc/apparmor.d/local/here") && !tree.contains("etc/apparmor.d/disable"));
}

#[test]
fn accounts_come_from_masters_scripts_and_sysusers() {
    let adduser = helper(
        "dh_installinit",
        "addgroup --system tcpdump\nadduser --system --ingroup tcpdump --home /nonexistent tcpdump\n\
         adduser --system --group --gecos 'A B' own || true\nadduser --system --home /var/lib/nfs statd",
    );
    let sysusers = "usr/lib/sysusers.d/a.conf=# comment\nu! systemd-network - \"Net, Work\"\ng input -\nu fixed 77 - /home/f /bin/sh\n\
                    u sshd -:nogroup \"sshd user\" /run/sshd\nm sshd input\nu free -\n";
    let tree = made(&[base(), accounts(), package("a", &[sysusers], &[("postinst", &adduser)])]);
    let passwd = text(&tree, "etc/passwd");
    for line in [
        "root:x:0:0:root:/root:/bin/bash",
        "tcpdump:x:105:105::/nonexistent:/usr/sbin/nologin",
        // 106 is tss in every image: see the accounts with numbers of their own.
        "own:x:107:107:A B:/nonexistent:/usr/sbin/nologin",
        "statd:x:102:65534::/var/lib/nfs:/usr/sbin/nologin",
        "systemd-network:x:998:998:Net, Work:/:/usr/sbin/nologin",
        "fixed:x:77:77::/home/f:/bin/sh",
        "sshd:x:989:65534:sshd user:/run/sshd:/usr/sbin/nologin",
        "free:x:986:986::/:/usr/sbin/nologin",
    ] {
        assert!(passwd.lines().any(|have| have == line), "{line} is not in\n{passwd}");
    }
    assert!(text(&tree, "etc/group").contains("input:x:995:sshd\n"));
    let shadow = text(&tree, "etc/shadow");
    for line in
        ["root:*:100:0:99999:7:::", "systemd-network:!*:100:::::1:", "sshd:!*:100::::::", "statd:!:100::::::"]
    {
        assert!(shadow.lines().any(|have| have == line), "{line} is not in\n{shadow}");
    }
    let meta = &tree.get("etc/shadow").unwrap().meta;
    assert_eq!((meta.mode, meta.uid, meta.gid), (0o640, 0, 42));
}

#[test]
fn units_are_linked_as_their_install_sections_say() {
    let enable = |unit: &str| format!("deb-systemd-helper enable '{unit}' >/dev/null || true");
    let script = [
        enable("a.service"),
        enable("t@.service"),
        enable("banned.service"),
        "if deb-systemd-helper debian-installed 'later.socket'; then".to_owned(),
        enable("later.socket"),
        "fi\ndeb-systemd-helper --user enable 'u.socket'".to_owned(),
    ];
    let files = [
        "usr/lib/systemd/system/a.service=[Unit]\nWantedBy=wrong\n[Install]\nWantedBy=multi-user.target x.target\nAlias=b.service\nAlso=c.socket\n",
        "usr/lib/systemd/system/c.socket=[Install]\nRequiredBy=r.service\nAlso=a.service\n",
        "usr/lib/systemd/system/t@.service=[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
        "usr/lib/systemd/system/banned.service=[Install]\nWantedBy=multi-user.target\n",
        "usr/lib/systemd/system/later.socket=[Install]\nWantedBy=sockets.target\n",
        "usr/lib/systemd/user/u.socket=[Install]\nWantedBy=sockets.target\n",
        "usr/lib/systemd/system-preset/10.preset=disable ban*.service\nenable *\n",
    ];
    let tree = made(&[
        base(),
        package("a", &files, &[("postinst", &helper("dh_installsystemd", &script.join("\n")))]),
    ]);
    let mut links: Vec<String> = tree
        .below("etc/systemd")
        .filter(|(_, entry)| matches!(entry.kind, Kind::Symlink(_)))
        .map(|(path, _)| String::from_utf8_lossy(&path[12..]).into_owned())
        .collect();
    links.sort();
    assert_eq!(
        links,
        [
            "system/b.service",
            "system/getty.target.wants/t@tty1.service",
            "system/multi-user.target.wants/a.service",
            "system/r.service.requires/c.socket",
            "system/x.target.wants/a.service",
            "user/sockets.target.wants/u.socket",
        ]
    );
    assert_eq!(
        text(&tree, "etc/systemd/system/getty.target.wants/t@tty1.service"),
        "-> /usr/lib/systemd/system/t@.service"
    );
}

#[test]
fn the_best_alternative_wins_with_its_slaves() {
    let install = |path: &str, priority: u8, slave: &str| {
        helper(
            "dh_installalternatives",
            &format!(
                "update-alternatives --install /bin/pager pager {path} {priority} --slave /usr/share/man/pager.1.gz pager.1.gz {slave}"
            ),
        )
    };
    let more = package(
        "more",
        &["usr/bin/more=m"],
        &[("postinst", &install("/bin/more", 50, "/usr/share/man/more.1.gz"))],
    );
    let less = package(
        "less",
        &["usr/bin/less=l", "usr/share/man/less.1.gz=p"],
        &[("postinst", &install("/usr/bin/less", 77, "/usr/share/man/less.1.gz"))],
    );
    let tree = made(&[base(), more.clone(), less]);
    assert_eq!(text(&tree, "usr/bin/pager"), "-> /etc/alternatives/pager");
    assert_eq!(text(&tree, "etc/alternatives/pager"), "-> /usr/bin/less");
    assert_eq!(text(&tree, "etc/alternatives/pager.1.gz"), "-> /usr/share/man/less.1.gz");
    assert_eq!(
        text(&tree, "var/lib/dpkg/alternatives/pager"),
        "auto\n/bin/pager\npager.1.gz\n/usr/share/man/pager.1.gz\n\n/bin/more\n50\n/usr/share/man/more.1.gz\n\
         /usr/bin/less\n77\n/usr/share/man/less.1.gz\n\n"
    );
    let tree = made(&[base(), more]);
    assert_eq!(text(&tree, "etc/alternatives/pager"), "-> /bin/more");
    assert!(!tree.contains("etc/alternatives/pager.1.gz"));
}

#[test]
fn pam_stacks_count_their_jumps() {
    let template = "usr/share/pam/common-auth=head\n$auth_primary\nmiddle\n$auth_additional\n";
    let a = "usr/share/pam-configs/a=Name: A\nDefault: yes\nPriority: 10\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_a.so try_first_pass\nAuth-Initial:\n\t[success=end default=ignore]\tpam_a.so\n";
    let b = "usr/share/pam-configs/b=Name: B\nDefault: yes\nPriority: 20\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_b.so x\n";
    let off = "usr/share/pam-configs/off=Name: Off\nDefault: no\nPriority: 99\nAuth-Type: Primary\nAuth:\n\trequired pam_off.so\n";
    let tree = made(&[base(), package("pam", &[template, a, b, off], &[])]);
    assert_eq!(
        text(&tree, "etc/pam.d/common-auth"),
        "head\nauth\t[success=2 default=ignore]\tpam_b.so x\nauth\t[success=1 default=ignore]\tpam_a.so try_first_pass\nmiddle\n"
    );
    let tree = made(&[base(), package("pam", &[template, off], &[])]);
    assert_eq!(text(&tree, "etc/pam.d/common-auth"), "head\nauth\t[default=1]\t\t\tpam_permit.so\nmiddle\n");
}

#[test]
fn tmpfiles_at_rest_are_made() {
    let conf = "usr/lib/tmpfiles.d/a.conf=d /var/lib/private 0700 root shadow -\nd /run/x 0755\nL /etc/mtab - - - - ../proc/self/mounts\n\
                L /etc/kept - - - - other\nL! /etc/boot-only - - - - x\nd /etc/credstore 0700 root root\nd /var/%m 0755\nf /var/f 0600 - - - hello\n";
    let tree = made(&[base(), accounts(), package("a", &[conf, "etc/kept=mine", "etc/credstore/"], &[])]);
    let meta = &tree.get("var/lib/private").unwrap().meta;
    assert_eq!((meta.mode, meta.gid), (0o700, 42));
    assert_eq!(tree.get("etc/credstore").unwrap().meta.mode, 0o700);
    assert_eq!(text(&tree, "etc/mtab"), "-> ../proc/self/mounts");
    assert_eq!(text(&tree, "etc/kept"), "mine");
    assert_eq!(text(&tree, "var/f"), "hello");
    assert!(!tree.contains("run/x") && !tree.contains("etc/boot-only"));
}

#[test]
fn the_package_database_is_dpkgs() {
    let control = "Essential: yes\nMulti-Arch: same\nHomepage: h\n";
    let members = [
        ("control", control),
        ("conffiles", "/etc/a.conf\nremove-on-upgrade /etc/old\n"),
        ("md5sums", "x  usr/bin/a\n"),
        ("triggers", "interest-noawait /usr/share/x\ninterest named # why\nactivate other\n"),
    ];
    let tree = made(&[base(), package("a", &["etc/a.conf=abc", "usr/bin/a=x"], &members)]);
    let status = text(&tree, "var/lib/dpkg/status");
    assert!(
        status.starts_with(
            "Package: a\nEssential: yes\nStatus: install ok installed\nArchitecture: all\nMulti-Arch: same\nVersion: 1\n\
             Conffiles:\n /etc/a.conf 900150983cd24fb0d6963f7d28e17f72\nDescription: made up\n lines\nHomepage: h\n\n"
        ),
        "{status}"
    );
    assert_eq!(
        text(&tree, "var/lib/dpkg/info/a:all.list"),
        "/.\n/etc\n/etc/a.conf\n/usr\n/usr/bin\n/usr/bin/a\n"
    );
    assert_eq!(text(&tree, "var/lib/dpkg/triggers/File"), "/usr/share/x a:all/noawait\n");
    assert_eq!(text(&tree, "var/lib/dpkg/triggers/named"), "a:all\n");
}

#[test]
fn a_sealed_root_keeps_everything_somewhere() {
    let files = [
        "opt/tool=t",
        "var/lib/x/y=1",
        "usr/local/bin/z=2",
        "root/.profile=p",
        "boot/vmlinuz-1=k",
        "srv/",
        "vmlinuz->boot/vmlinuz-1",
    ];
    let tree = seal(made(&[base(), accounts(), package("a", &files, &[])]));
    for (path, place) in
        [("home", "var/home"), ("root", "var/roothome"), ("opt", "var/opt"), ("usr/local", "../var/usrlocal")]
    {
        assert_eq!(text(&tree, path), format!("-> {place}"));
    }
    for (path, content) in [
        ("usr/share/factory/var/opt/tool", "t"),
        ("usr/share/factory/var/lib/x/y", "1"),
        ("usr/share/factory/var/usrlocal/bin/z", "2"),
        ("usr/share/factory/var/roothome/.profile", "p"),
        ("usr/share/factory/var/lib/dpkg", "-> /usr/lib/sysimage/dpkg"),
        ("usr/share/factory/var/run", "-> /run"),
    ] {
        assert_eq!(text(&tree, path), content, "{path}");
    }
    assert!(text(&tree, "usr/lib/sysimage/dpkg/status").contains("Package: a\n"));
    assert_eq!(text(&tree, "boot/vmlinuz-1"), "k");
    assert!(!tree.contains("vmlinuz"));
    for empty in ["dev", "proc", "sys", "run", "tmp"] {
        assert!(matches!(tree.get(empty).unwrap().kind, Kind::Directory), "{empty}");
        assert_eq!(tree.below(empty).count(), 0, "{empty}");
    }
    let paths: Vec<Vec<u8>> = tree.iter().map(|(path, _)| path.to_vec()).collect();
    for path in paths.iter().filter(|path| !path.is_empty()) {
        let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |at| &path[..at]);
        let kind = &tree
            .get(parent)
            .unwrap_or_else(|| panic!("no parent of {}", String::from_utf8_lossy(path)))
            .kind;
        assert!(matches!(kind, Kind::Directory), "{}", String::from_utf8_lossy(path));
    }
    // Under the mount point is what scanners of images read, and nothing else.
    assert!(
        tree.below("var")
            .all(|(path, _)| b"var/lib/dpkg".starts_with(path) || path.starts_with(b"var/lib/dpkg/"))
    );
    let Kind::HardLink(status) = &tree.get("var/lib/dpkg/status").unwrap().kind else { panic!("a copy") };
    assert_eq!(**status, *b"usr/lib/sysimage/dpkg/status");
    assert!(tree.below("var/lib/dpkg/info").any(|(path, _)| path.ends_with(b".list")));
    assert!(tree.contains("usr/share/factory/var/.updated"));
    let time = |path: &str| tree.get(path).unwrap().meta.mtime;
    assert_eq!(time("etc/.updated"), time("usr"));
}

#[test]
fn hard_links_across_the_seal_become_copies() {
    let mut one = package("a", &["var/a=1", "usr/b=2"], &[]);
    one.tree.insert("usr/to-var", Entry::new(Kind::HardLink((*b"var/a").into()), 0o644));
    one.tree.insert("usr/to-usr", Entry::new(Kind::HardLink((*b"usr/b").into()), 0o644));
    let tree = seal(made(&[base(), one]));
    assert_eq!(text(&tree, "usr/to-var"), "1");
    assert!(matches!(&tree.get("usr/to-usr").unwrap().kind, Kind::HardLink(to) if **to == *b"usr/b"));
}

proptest! {
    #[test]
    fn hostile_scripts_and_control_data_never_panic(script in "[ -~\n\t\\\\'\"<>|;&$(){}#é]{0,200}", fields in "[ -~\n:é]{0,120}") {
        let odd = package("odd", &[&format!("usr/lib/sysusers.d/a.conf={script}"), &format!("usr/lib/tmpfiles.d/a.conf={fields}"), &format!("usr/share/pam-configs/x={script}"), "usr/share/pam/common-auth=$auth_primary\n"],
            &[("control", &fields), ("postinst", &helper("dh_installinit", &script)), ("triggers", &script), ("conffiles", &fields)]);
        let options = Options { scripts_skip: vec!["other".to_owned()], ..options() };
        let _ = assemble(&[base(), accounts(), odd], &options);
    }
}
