//! The files that overlays fetch into a node's image: what their documents say of them, with the settings in it.

use super::context::{NoVault, Vault, View};
use super::{Error, template};
use crate::cluster::{self, Cluster, Node, Overlay, Quoting};
use crate::lock::Url;
use minijinja::{Environment, Value, context};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Endings of archives that a member can be taken from.
pub const ARCHIVES: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst"];

/// A file that is wanted in the image of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// The overlay that wants it.
    pub overlay: String,
    /// Name in the overlay's document.
    pub name: String,
    /// Debian's name of the node's architecture.
    pub architecture: &'static str,
    /// Where it is published; a sound [`Url`].
    pub url: String,
    /// Where its digest is published; a sound [`Url`].
    pub sums: Option<String>,
    /// Path in the archive that it is.
    pub member: Option<String>,
    /// Absolute path in the image.
    pub path: String,
    /// Permission bits; its owner is root.
    pub mode: u16,
}

/// The artefacts of all overlays of `node`, in the order of their paths; of two with one path, that of the later overlay.
/// Their templates see `overlay` and `architecture` and no secret: nodes with the same settings share them, and the lock
/// has their addresses.
pub fn artefacts(cluster: &Cluster, node: &Node) -> Result<Vec<Artefact>, Error> {
    let vault: Arc<dyn Vault> = Arc::new(NoVault);
    let mut all = BTreeMap::new();
    let mut layers = node.overlays.iter().filter(|layer| !layer.artefacts.is_empty()).peekable();
    if layers.peek().is_none() {
        return Ok(Vec::new());
    }
    let view = View::new(cluster, node, &vault);
    for layer in layers {
        let values = context! {
            overlay => view.settings(&layer.settings),
            architecture => node.architecture.as_str(),
        };
        let environment = template::environment(Quoting::None);
        for asked in &layer.artefacts {
            let asking = Asking { environment: &environment, values: &values, layer, asked };
            if asking.is_wanted()? {
                let artefact = asking.artefact(node.architecture.as_str())?;
                all.insert(artefact.path.clone(), artefact);
            }
        }
    }
    Ok(all.into_values().collect())
}

/// One artefact of a document.
struct Asking<'a> {
    environment: &'a Environment<'static>,
    values: &'a Value,
    layer: &'a Overlay,
    asked: &'a cluster::Artefact,
}

impl Asking<'_> {
    fn name(&self, key: &str) -> String {
        format!("`{key}` of the artefact {} of the overlay {}", self.asked.name, self.layer.name)
    }

    fn fault(&self, key: &str, reason: String) -> Error {
        Error::Template { name: self.name(key), line: 0, reason }
    }

    fn is_wanted(&self) -> Result<bool, Error> {
        let Some(when) = &self.asked.when else { return Ok(true) };
        let answer = self.environment.compile_expression(when).and_then(|asked| asked.eval(self.values));
        answer.map(|answer| answer.is_true()).map_err(|e| template::in_template(&self.name("when"), &e))
    }

    fn text(&self, key: &str, source: &str) -> Result<String, Error> {
        let name = self.name(key);
        self.environment
            .render_named_str(&name, source, self.values)
            .map_err(|error| template::in_template(&name, &error))
    }

    fn address(&self, key: &str, source: &str) -> Result<String, Error> {
        let text = self.text(key, source)?;
        match Url::parse(&text) {
            Ok(_) => Ok(text),
            Err(reason) => Err(self.fault(key, format!("{text:?} is not an address: {reason}"))),
        }
    }

    fn artefact(&self, architecture: &'static str) -> Result<Artefact, Error> {
        let cluster::Artefact { name, url, path, sums, member, mode, when: _ } = self.asked;
        let url = self.address("url", url)?;
        let sums = sums.as_ref().map(|sums| self.address("sums", sums)).transpose()?;
        let member = member.as_ref().map(|member| self.text("member", member)).transpose()?;
        let parsed = Url::parse(&url).map_err(|reason| self.fault("url", reason.to_string()))?;
        if !parsed.is_secure() && sums.is_none() {
            let reason = "nobody vouches for bytes that come over plain http: use https, or name in `sums` where the digest \
                          is published";
            return Err(self.fault("url", reason.to_owned()));
        }
        let file = parsed.file_name();
        if member.is_some() && !ARCHIVES.iter().any(|ending| file.ends_with(ending)) {
            let reason =
                format!("{file} is no archive that a member can be taken from ({})", ARCHIVES.join(", "));
            return Err(self.fault("member", reason));
        }
        if member.as_ref().is_some_and(|member| member.trim_start_matches("./").is_empty()) {
            return Err(self.fault("member", "the path in the archive is empty".to_owned()));
        }
        Ok(Artefact {
            overlay: self.layer.name.clone(),
            name: name.clone(),
            architecture,
            url,
            sums,
            member,
            path: path.clone(),
            mode: *mode,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Artefact, artefacts};
    use crate::cluster;
    use std::path::Path;

    /// What the node of a cluster with an overlay of these artefacts and settings wants.
    fn wanted(document: &str, settings: &str) -> Result<Vec<Artefact>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mine")).unwrap();
        std::fs::write(folder.path().join("mine/overlay.yaml"), document).unwrap();
        let text = format!(
            "apiVersion: kiln/v1\ncluster: {{name: c}}\noverlays: [{{name: ./mine{settings}}}]\n\
             users: [{{name: a, password_hash: $y$j9T$x$y}}]\nnodes: [{{name: n, network: {{dhcp: true}}}}]\n"
        );
        let loaded = cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), folder.path());
        let cluster = loaded.unwrap_or_else(|error| panic!("{error:?}")).cluster;
        artefacts(&cluster, &cluster.nodes[0]).map_err(|error| error.to_string())
    }

    const SETTINGS: &str = "settings: {version: {type: text, default: v1+x}, extra: {type: boolean, default: false}, \
                            key: {type: secret}}\n";

    fn one(artefact: &str) -> Result<Vec<Artefact>, String> {
        wanted(&format!("{SETTINGS}artefacts: [{{name: a, path: /usr/bin/a, {artefact}}}]\n"), "")
    }

    #[test]
    fn templates_see_settings_and_architecture() {
        let document = format!(
            "{SETTINGS}artefacts:\n  \
             - {{name: a, url: \"https://h/{{{{ overlay.version | urlencode }}}}/a-{{{{ architecture }}}}\", path: /usr/bin/a}}\n  \
             - {{name: b, url: \"https://h/b.tgz\", sums: \"https://h/{{{{ overlay.version }}}}\", member: \"b/{{{{ architecture }}}}\", path: /usr/b, mode: \"0644\", when: overlay.extra}}\n"
        );
        let plain = wanted(&document, "").unwrap();
        assert_eq!(plain.len(), 1);
        assert_eq!(plain[0].url, "https://h/v1%2Bx/a-amd64");
        assert_eq!((plain[0].mode, plain[0].architecture), (0o755, "amd64"));
        let extra = wanted(&document, ", extra: true").unwrap();
        assert_eq!(extra.len(), 2);
        let b = &extra[0];
        assert_eq!((b.path.as_str(), b.mode), ("/usr/b", 0o644));
        assert_eq!((b.sums.as_deref(), b.member.as_deref()), (Some("https://h/v1+x"), Some("b/amd64")));
    }

    #[test]
    fn k3s_is_its_release_file() {
        let text = "apiVersion: kiln/v1\ncluster: {name: c, k3s: {version: v1.36.2+k3s1, air_gap: true}}\n\
                    users: [{name: a, password_hash: $y$j9T$x$y}]\n\
                    nodes: [{name: n, role: server, architecture: arm64, network: {dhcp: true}}]\n";
        let loaded = cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), Path::new(""));
        let cluster = loaded.unwrap_or_else(|error| panic!("{error:?}")).cluster;
        let all = artefacts(&cluster, &cluster.nodes[0]).unwrap();
        let release = "https://github.com/k3s-io/k3s/releases/download/v1.36.2%2Bk3s1";
        let urls: Vec<&str> = all.iter().map(|artefact| artefact.url.as_str()).collect();
        assert_eq!(
            urls,
            [format!("{release}/k3s-arm64"), format!("{release}/k3s-airgap-images-arm64.tar.zst")]
        );
        for artefact in &all {
            assert_eq!(artefact.sums, Some(format!("{release}/sha256sum-arm64.txt")));
        }
    }

    #[test]
    fn no_secret_gets_into_an_address() {
        let document = format!(
            "{SETTINGS}artefacts: [{{name: a, path: /a, url: \"https://h/{{{{ overlay.key }}}}\"}}]\n"
        );
        let fault = wanted(&document, ", key: {env: HOME}").unwrap_err();
        assert!(fault.ends_with(" was not read"), "{fault}");
    }

    #[test]
    fn what_cannot_be_fetched_is_refused() {
        assert_eq!(
            one("url: http://h/a").unwrap_err(),
            "the template `url` of the artefact a of the overlay mine: nobody vouches for bytes that come over plain http: \
             use https, or name in `sums` where the digest is published"
        );
        assert_eq!(
            one("url: https://h/").unwrap_err(),
            "the template `url` of the artefact a of the overlay mine: \"https://h/\" is not an address: its path must be \
             plain names and end with that of a file"
        );
        assert_eq!(
            one("url: https://h/a.zip, member: a").unwrap_err(),
            "the template `member` of the artefact a of the overlay mine: a.zip is no archive that a member can be taken \
             from (.tar, .tar.gz, .tgz, .tar.xz, .tar.zst)"
        );
        assert_eq!(
            one("url: \"https://h/{{ node.name }}\"").unwrap_err(),
            "the template `url` of the artefact a of the overlay mine, line 1: `node` is undefined"
        );
    }
}
