//! What k3s finds on its node: asked of the nodes that the join has booted anyway.

use crate::cable::Node;

/// Where an archive of images is, as far as k3s looks.
const IMAGES: &str = "/var/lib/rancher/k3s/agent/images";
/// As containerd loads its own profile (containerd, contrib/apparmor), and looks whether the host takes one.
const CONFINED: &str = "test -d /sys/kernel/security/apparmor && test -x /sbin/apparmor_parser && \
     grep -q ^Y /sys/module/apparmor/parameters/enabled && \
     printf 'abi <abi/3.0>,\\nprofile cri-containerd.apparmor.d flags=(attach_disconnected,mediate_deleted) {\\n file,\\n}\\n' > /tmp/profile && \
     sudo apparmor_parser -Kr /tmp/profile && sudo aa-exec -p cri-containerd.apparmor.d -- cat /proc/self/attr/current";

/// Containers are confined as soon as containerd asks for it.
pub(super) fn confines(node: &Node) {
    assert_eq!(
        node.ask("systemctl is-active apparmor.service; sudo aa-status --enabled && echo enabled"),
        "active\nenabled\n"
    );
    let profiles = node.ask("sudo cat /sys/kernel/security/apparmor/profiles");
    assert!(
        profiles.contains("(enforce)")
            || profiles.contains("(complain)")
            || profiles.contains("(unconfined)"),
        "{profiles}"
    );
    assert_eq!(node.ask(CONFINED).trim_end(), "cri-containerd.apparmor.d (enforce)");
    let took = node.ask("systemd-analyze blame --no-pager | grep -F apparmor.service");
    eprintln!("measured: profiles of AppArmor {}, {} of them", took.trim(), profiles.lines().count());
}

/// k3s makes nothing on the read-only root, has ipset for its policies, and its images once.
pub(super) fn serves_k3s(node: &Node) {
    node.ask("test -d /usr/libexec/kubernetes/kubelet-plugins/volume/exec/ && ! sudo touch /usr/libexec/kubernetes/x 2>/dev/null");
    node.ask("sudo /usr/sbin/ipset create kiln-test hash:ip && sudo /usr/sbin/ipset destroy kiln-test");
    let archive = "/usr/share/kiln/images/k3s-airgap-images.tar.zst";
    let digest = node.ask(&format!("sha256sum {archive}"));
    let link = format!("{}-k3s-airgap-images.tar.zst", &digest[..16]);
    assert_eq!(node.ask(&format!("sudo ls -A {IMAGES}")), format!(".cache.json\n{link}\n"));
    assert_eq!(node.ask(&format!("sudo readlink {IMAGES}/{link}")).trim_end(), archive);
}

/// What k3s remembers of its images, as it writes it: the next start must find it.
pub(super) fn remembers(node: &Node, words: &str) {
    node.ask(&format!("echo {words} | sudo tee {IMAGES}/.cache.json >/dev/null"));
}

pub(super) fn remembered(node: &Node) -> String {
    node.ask(&format!("sudo cat {IMAGES}/.cache.json")).trim_end().to_owned()
}

/// Nobody but root looks into what the server keeps.
pub(super) fn keeps_to_itself(server: &Node) {
    let modes = server.ask("sudo stat -c %a /var/lib/rancher/k3s/server /var/lib/rancher/k3s/server/tls");
    assert_eq!(modes, "700\n700\n");
}

/// A folder of the cluster file can be written to, as a `hostPath` of a pod would.
pub(super) fn gives_room(node: &Node) {
    node.ask("! test -w / && sudo mkdir -p /data/app/x && echo mine | sudo tee /data/app/x/y >/dev/null && sudo chmod 1777 /data/");
}

/// What was written there is there after the next start, and is below /var.
pub(super) fn kept_room(node: &Node) {
    assert_eq!(
        node.ask("readlink /data; cat /data/app/x/y /var/directories/data/app/x/y; stat -Lc %a /data"),
        "var/directories/data\nmine\nmine\n1777\n"
    );
}
