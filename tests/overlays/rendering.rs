//! Clusters, and what overlays make of them on each node.

use kiln::cluster::settings::Secret;
use kiln::cluster::{self, Cluster, Loaded};
use kiln::render::{File, Vault, files};
use kiln_tests::{die, top};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A cluster file, with the folder that its paths count from.
pub(crate) fn load(path: &Path) -> Cluster {
    let text = std::fs::read(path).unwrap_or_else(|error| die(&format!("{}: {error}", path.display())));
    let folder = path.parent().unwrap_or(Path::new("."));
    match cluster::parse(&text, path, folder) {
        Ok(Loaded { cluster, .. }) => cluster,
        Err(error) => die(&format!("{error}: {error:?}")),
    }
}

/// The example clusters' files.
pub(crate) fn examples() -> Vec<PathBuf> {
    let folder = top().join("overlays/examples");
    ["ha-ceph", "k3s-flux", "picluster"].map(|name| folder.join(name).join("cluster.yaml")).into()
}

/// The examples, and clusters that say all that overlays can be told.
pub(crate) fn clusters() -> Vec<Cluster> {
    let own = ["everything", "other", "announced", "third"]
        .map(|name| top().join("tests/overlays").join(format!("{name}.yaml")));
    examples().iter().chain(&own).map(|path| load(path)).collect()
}

/// Secrets that are no secrets: each is its own name, between these.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) before: &'static str,
    pub(crate) after: &'static str,
}

/// As a reviewer reads them.
pub(crate) const PLAIN: Named = Named { before: "<<", after: ">>" };
/// With everything that some reader takes for something else.
pub(crate) const HOSTILE: Named = Named { before: "it's \"", after: "\" \\ # $HOME `id` {{ x }} %i é" };

impl Vault for Named {
    fn reveal(&self, secret: &Secret) -> Result<String, String> {
        // Where the repository is does not matter.
        let name = match secret {
            Secret::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            secret => format!("{secret:?}"),
        };
        Ok(format!("{}{name}{}", self.before, self.after))
    }
    fn own(&self, name: &str, node: &str) -> Result<Option<String>, String> {
        Ok(Some(format!("{}{name} of {node}{}", self.before, self.after)))
    }
    fn public(&self, name: &str, node: &str) -> Result<Option<String>, String> {
        Ok(Some(match name {
            "made" => "1790000000".to_owned(),
            "founding" => "true".to_owned(),
            name => format!("({name} of {node})"),
        }))
    }
    fn digest(&self, _: &[u8]) -> String {
        String::new()
    }
}

/// A node and its files.
pub(crate) struct Rendered {
    pub(crate) cluster: String,
    pub(crate) node: kiln::cluster::Node,
    /// It makes the cluster.
    pub(crate) first: bool,
    pub(crate) files: Vec<File>,
}

impl Rendered {
    /// Where a file is, for messages.
    pub(crate) fn place(&self, file: &File) -> String {
        format!("{}/{}{}", self.cluster, self.node.name, file.path)
    }
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// All nodes of all clusters.
pub(crate) fn rendered(vault: Named) -> Vec<Rendered> {
    let vault: Arc<dyn Vault> = Arc::new(vault);
    let each = |cluster: Cluster| {
        let first = cluster.first_server().map(|node| node.name.clone());
        let of = |node: &kiln::cluster::Node| {
            let files = files(&cluster, node, &vault);
            files.map(|files| Rendered {
                cluster: cluster.name.clone(),
                first: Some(&node.name) == first.as_ref(),
                files,
                node: node.clone(),
            })
        };
        cluster.nodes.iter().map(of).collect::<Vec<_>>()
    };
    let all: Vec<_> = clusters().into_iter().flat_map(each).collect();
    let errors: Vec<_> = all.iter().filter_map(|one| Some(one.as_ref().err()?.to_string())).collect();
    if errors.is_empty() { all.into_iter().flatten().collect() } else { die(&errors.join("\n")) }
}
