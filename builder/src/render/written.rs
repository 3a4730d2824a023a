//! Files that a seed would write to a disk of its own. cloud-init writes all files from one list, and ends at the first that it
//! can't write; a disk's place, where the disk is missing, takes nothing.

use super::{Error, files};
use crate::cluster::user_data::{Content, Yaml};
use crate::cluster::{Cluster, Node};
use std::path::PathBuf;

/// Folders of a Kiln image that are links into /var (`rootfs::seal`): a file may be named by either.
const LINKS: [(&str, &str); 5] = [
    ("/home", "/var/home"),
    ("/root", "/var/roothome"),
    ("/srv", "/var/srv"),
    ("/opt", "/var/opt"),
    ("/usr/local", "/var/usrlocal"),
];

/// A file of a seed below the place of a disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {node}: {by} writes {path} at the first boot, and a disk is mounted at {mount_point}")]
pub struct Lost {
    /// The node.
    pub node: String,
    /// Whose file it is.
    pub by: String,
    /// The file.
    pub path: String,
    /// The disk's place.
    pub mount_point: String,
}

impl Lost {
    /// What to do about it.
    pub const HELP: &str = "without the disk cloud-init can't write it, and writes none of the files behind it: write the file elsewhere, or mount the disk elsewhere";
}

/// All of them, of overlays and of the user's own files.
pub fn lost(cluster: &Cluster, node: &Node) -> Result<Vec<Lost>, Error> {
    let disks = node.disks.data.iter().flat_map(|rule| &rule.slots);
    let disks = disks.filter_map(|slot| slot.mount_point.as_deref());
    let luns = node.iscsi.iter().flat_map(|iscsi| &iscsi.luns).map(|lun| lun.mount_point.as_str());
    let places: Vec<&str> = disks.chain(luns).collect();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let overlays = files::paths(cluster, node)?;
    let overlays = overlays.into_iter().map(|(overlay, path)| (format!("the overlay {overlay}"), path));
    let own = node.user_data.iter().flat_map(|data| {
        let Content::CloudConfig(entries) = &data.content else { return Vec::new() };
        let by = format!("{} (`write_files`)", data.path.display());
        written(entries).into_iter().map(|path| (by.clone(), path)).collect()
    });
    let mut found = Vec::new();
    for (by, path) in overlays.chain(own) {
        let real = real(&path);
        let place = places.iter().find(|place| real.starts_with(self::real(place)));
        found.extend(place.map(|place| Lost {
            node: node.name.clone(),
            by,
            path,
            mount_point: (*place).to_owned(),
        }));
    }
    Ok(found)
}

/// The paths in a cloud-config's `write_files`.
fn written(entries: &[(Yaml, Yaml)]) -> Vec<String> {
    let lists = entries.iter().filter(|(key, _)| key.scalar() == Some("write_files"));
    let items = lists.flat_map(|(_, list)| match list {
        Yaml::List(items) => items.as_slice(),
        _ => &[],
    });
    let paths = items.filter_map(|item| match item {
        Yaml::Map(fields) => fields.iter().find(|(key, _)| key.scalar() == Some("path"))?.1.scalar(),
        _ => None,
    });
    paths.map(str::to_owned).collect()
}

/// A path without `.` and `..`, behind the image's own links.
fn real(path: &str) -> PathBuf {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path = PathBuf::from(format!("/{}", parts.join("/")));
    let link = LINKS.iter().find_map(|(link, to)| Some((path.strip_prefix(link).ok()?, *to)));
    link.map_or(path.clone(), |(below, to)| PathBuf::from(to).join(below))
}

#[cfg(test)]
mod tests {
    use super::{Lost, lost, real};
    use crate::cluster::parse;
    use crate::render::{NoVault, Vault, seed};
    use std::path::Path;
    use std::sync::Arc;

    const CLUSTER: &str = "
apiVersion: kiln/v1
cluster: { name: demo, endpoint: 192.168.1.1, k3s: { version: v1.36.2+k3s1 } }
user_data: ./own.yaml
nodes:
  - name: n1
    role: server
    network: { address: 192.168.1.1/24, gateway: 192.168.1.254 }
    disks: { data: [{ name: k3s, match: { transport: virtio }, use: mount, mount_point: /var/lib/rancher }] }
  - name: n2
    role: agent
    network: { address: 192.168.1.2/24, gateway: 192.168.1.254 }
    disks:
      data:
        - { name: k3s, match: { transport: virtio }, use: mount, mount_point: /var/lib/rancher }
        - { name: data, match: { transport: sata }, use: mount, mount_point: /srv/data }
";

    fn found(own: &str) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("own.yaml"), own).unwrap();
        let loaded = parse(CLUSTER.as_bytes(), Path::new("cluster.yaml"), folder.path()).unwrap();
        let words = |lost: Lost| format!("{} {}", lost.path, lost.mount_point);
        let of = |node| lost(&loaded.cluster, node).unwrap().into_iter().map(words).collect();
        loaded.cluster.nodes.iter().map(of).collect()
    }

    #[test]
    fn only_what_this_node_writes_there_is_lost() {
        let found = found("#cloud-config\nwrite_files:\n  - { path: /etc/a, content: a }\n");
        assert!(
            found[0].contains(&"/var/lib/rancher/k3s/server/tls/server-ca.crt /var/lib/rancher".to_owned())
        );
        assert!(found[0].iter().all(|one| one.starts_with("/var/lib/rancher/k3s/server/")), "{found:#?}");
        // An agent has no certificate authorities: its containers may be on a disk.
        assert_eq!(found[1], [""; 0]);
    }

    #[test]
    fn the_users_files_are_looked_at_whatever_they_are_called() {
        let found = found(
            "#cloud-config\nwrite_files:\n  - path: /srv/data/x\n  - path: /var/srv/data/y\n  - path: /srv/database\n",
        );
        assert_eq!(found[1], ["/srv/data/x /srv/data", "/var/srv/data/y /srv/data"]);
    }

    /// cloud-init ends at the first file that it can't write, which only a user's can be.
    #[test]
    fn the_networks_files_come_first_and_the_users_last() {
        const CLUSTER: &str = "
apiVersion: kiln/v1
cluster: { name: demo }
overlays: [iscsi-initiator]
user_data: ./own.yaml
nodes:
  - name: n1
    network: { interfaces: { lan: { interface: enp1s0, dhcp: true }, br0: { bridge: { interfaces: [other] }, dhcp: true }, other: { interface: enp2s0 } } }
";
        let folder = tempfile::tempdir().unwrap();
        let own = "#cloud-config\nwrite_files:\n  - { path: /etc/of-the-user, content: a }\n";
        std::fs::write(folder.path().join("own.yaml"), own).unwrap();
        let loaded = parse(CLUSTER.as_bytes(), Path::new("cluster.yaml"), folder.path()).unwrap();
        let vault: Arc<dyn Vault> = Arc::new(NoVault);
        let seed = seed(&loaded.cluster, &loaded.cluster.nodes[0], &vault).unwrap();
        let paths = seed.user_data.lines().filter_map(|line| line.trim().strip_prefix("- path: "));
        let kinds: Vec<usize> = paths
            .map(|path| match path.trim_matches('"') {
                path if path.starts_with("/etc/systemd/network/") => 0,
                "/etc/of-the-user" => 2,
                _ => 1,
            })
            .collect();
        assert!(kinds.is_sorted() && kinds.contains(&0) && kinds.contains(&1), "{}", seed.user_data);
        assert_eq!(kinds.iter().filter(|kind| **kind == 2).count(), 1);
    }

    #[test]
    fn links_and_dots_are_seen_through() {
        for (path, want) in [
            ("/home/a", "/var/home/a"),
            ("/homes/a", "/homes/a"),
            ("/usr/local/./bin/x", "/var/usrlocal/bin/x"),
            ("/../root", "/var/roothome"),
            ("//etc/x/", "/etc/x"),
        ] {
            assert_eq!(real(path), Path::new(want), "{path}");
        }
    }
}
