//! Manifests among the files of a seed: those that are made once, and those of kinds that may not be there yet, become
//! documents that the node works by. All others are files for k3s' own folder.

use super::{Error, File};
use kiln_contract::manifest::{
    AFTER_NODE, FOLDER, INDEX, Index, KEPT, Laid, Manifest, OfKind, Once, VERSION, is_name,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Kinds that every k3s has: of Kubernetes' own groups, and of the two that k3s brings before it looks into its folder
/// (k3s, pkg/crd/crds.go; k3s-io/helm-controller, pkg/crds).
const PRESENT: [&str; 3] = ["", "k3s.cattle.io", "helm.cattle.io"];
/// Groups of Kubernetes without a dot in their name.
const OLD: [&str; 4] = ["apps", "autoscaling", "batch", "policy"];
/// The end of the names of all others. Groups of other projects may end so, too.
const KUBERNETES: [&str; 15] = [
    "admissionregistration",
    "apiextensions",
    "apiregistration",
    "authentication",
    "authorization",
    "certificates",
    "coordination",
    "discovery",
    "events",
    "flowcontrol.apiserver",
    "networking",
    "node",
    "rbac.authorization",
    "scheduling",
    "storage",
];

/// What earlier versions had in k3s' folder, by overlay: there it would be kept in force for ever.
const WITHDRAWN: [(&str, &[&str]); 4] = [
    ("cilium", &["cilium", "cilium-addresses"]),
    ("flux", &["flux-namespace", "flux-operator", "flux-secrets", "flux-sync"]),
    ("ingress-nginx", &["ingress-nginx"]),
    ("longhorn", &["longhorn", "longhorn-nodes"]),
];

/// Names of the files that earlier versions would have laid into k3s' folder, for these overlays.
pub(super) fn withdrawn<'a>(overlays: impl Iterator<Item = &'a str>) -> Vec<String> {
    let of =
        |overlay| WITHDRAWN.iter().filter(move |(name, _)| *name == overlay).flat_map(|(_, files)| *files);
    overlays.flat_map(of).map(|name| (*name).to_owned()).collect()
}

/// The files as they go to the node. Servers, where k3s looks for manifests, get a list of the documents, and of the files that
/// are `withdrawn`.
pub(super) fn arranged(files: Vec<File>, withdrawn: Option<Vec<String>>) -> Result<Vec<File>, Error> {
    let mut arranged = Vec::new();
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    for file in files {
        let made = stem(&file, FOLDER).map(str::to_owned);
        let Some(name) = made.clone().or_else(|| stem(&file, KEPT).map(str::to_owned)) else {
            arranged.push(file);
            continue;
        };
        if !seen.insert(name.clone()) {
            let reason =
                "there are two manifests of that name, in k3s' folder and among those that are made once";
            return Err(fault(&file, reason));
        }
        match if made.is_some() { Some(once(&file, &name)?) } else { laid(&file, &name) } {
            Some(document) => {
                let text = String::from_utf8_lossy(&document.to_bytes()).into_owned();
                let path = format!("{FOLDER}/{}.json", document.name);
                names.push(document.name);
                // What is told in them is of no use to others than root.
                arranged.push(File { path, mode: 0o600, text, ..file });
            }
            None => arranged.push(file),
        }
    }
    if let Some(mut withdrawn) = withdrawn {
        names.sort();
        withdrawn.retain(|name| !seen.contains(name));
        let index = Index { version: VERSION, manifests: names, withdrawn };
        let text = String::from_utf8_lossy(&index.to_bytes()).into_owned();
        arranged.push(File { path: INDEX.to_owned(), mode: 0o600, text, secret: false });
    }
    arranged.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(arranged)
}

/// The name of a manifest in that folder.
fn stem<'a>(file: &'a File, folder: &str) -> Option<&'a str> {
    let name = file.path.strip_prefix(folder)?.strip_prefix('/')?;
    name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml"))
}

fn fault(file: &File, reason: &str) -> Error {
    Error::Manifest { path: file.path.clone(), reason: reason.to_owned() }
}

/// A cluster may have thousands of nodes, and an object each; the text is a template's of this machine.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_documents: 1 << 16, max_nodes: 1 << 24, max_events: 1 << 25 },
    }
}

/// The objects of a file.
fn objects(file: &File) -> Result<Vec<Value>, String> {
    let documents =
        serde_saphyr::from_multiple_with_options::<Value>(&file.text, options()).map_err(|error| {
            // The parser shows the lines around a fault, and those may hold a secret.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            if file.secret { "it is no YAML".to_owned() } else { format!("it is no YAML: {first}") }
        })?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        match document["kind"].as_str() {
            Some("List") => {
                objects.extend(document["items"].as_array().into_iter().flatten().cloned());
            }
            _ => objects.push(document),
        }
    }
    Ok(objects)
}

fn once(file: &File, name: &str) -> Result<Manifest, Error> {
    if !is_name(name) {
        return Err(fault(file, "a manifest is named with letters, digits, `-` and `_`"));
    }
    let objects = objects(file).map_err(|reason| fault(file, &reason))?;
    let mut once = Vec::new();
    for mut object in objects {
        let mut after_node = None;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
            && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
        {
            after_node = annotations.remove(AFTER_NODE).and_then(|node| node.as_str().map(str::to_owned));
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        once.push(Once { after_node, object });
    }
    // What others are in is there before them, and so are a chart's values before its first Job.
    once.sort_by_key(|once| match once.object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("HelmChartConfig") => 1,
        _ => 2,
    });
    let manifest =
        Manifest { version: VERSION, name: name.to_owned(), secret: file.secret, once, laid: None };
    // What a node would refuse is told here.
    Manifest::parse(&manifest.to_bytes()).map_err(|error| fault(file, &error.to_string()))
}

/// The document of a file with kinds that may not be there; nothing of one that k3s can apply at once, or that is no YAML,
/// which k3s says itself.
fn laid(file: &File, name: &str) -> Option<Manifest> {
    let objects = objects(file).ok().filter(|_| is_name(name))?;
    let brings = |kind: &OfKind| {
        let group = kind.api_version.split('/').next();
        let defines = |object: &&Value| {
            object["kind"] == "CustomResourceDefinition"
                && object["spec"]["group"].as_str() == group
                && object["spec"]["names"]["kind"].as_str() == Some(kind.kind.as_str())
        };
        objects.iter().any(|object| defines(&object))
    };
    let mut kinds: Vec<OfKind> = objects
        .iter()
        .filter_map(|object| {
            let text = |key: &str| object[key].as_str().map(str::to_owned);
            Some(OfKind { api_version: text("apiVersion")?, kind: text("kind")? })
        })
        .filter(|kind| !is_present(&kind.api_version) && !brings(kind))
        .collect();
    kinds.sort();
    kinds.dedup();
    let laid = Some(Laid { kinds, text: file.text.clone() }).filter(|laid| !laid.kinds.is_empty());
    laid.map(|laid| Manifest {
        version: VERSION,
        name: name.to_owned(),
        secret: file.secret,
        once: Vec::new(),
        laid: Some(laid),
    })
}

fn is_present(api_version: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let kubernetes = group.strip_suffix(".k8s.io").is_some_and(|name| KUBERNETES.contains(&name));
    PRESENT.contains(&group) || OLD.contains(&group) || kubernetes
}

#[cfg(test)]
mod tests {
    use super::arranged;
    use crate::render::File;
    use kiln_contract::manifest::{FOLDER, INDEX, Index, KEPT, Manifest};

    fn file(folder: &str, name: &str, text: &str) -> File {
        File { path: format!("{folder}/{name}"), mode: 0o644, text: text.to_owned(), secret: false }
    }

    const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    const CEPH: &str = "apiVersion: ceph.rook.io/v1\nkind: CephCluster\nmetadata: {name: a, namespace: b}\n";
    const CRD: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x}\nspec: {group: ceph.rook.io, names: {kind: CephCluster}}\n";

    /// k3s forces all of its folder again and again while one kind is not there.
    #[test]
    fn no_file_waits_in_the_folder_of_k3s() {
        let both = format!("# why\n{NAMESPACE}---\n{CEPH}");
        for (text, waits) in [
            (NAMESPACE.to_owned(), false),
            (CEPH.to_owned(), true),
            (both, true),
            // It brings the kind itself, and k3s needs one more look.
            (format!("{CRD}---\n{CEPH}"), false),
            ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n".to_owned(), false),
            ("apiVersion: helm.cattle.io/v1\nkind: HelmChart\nmetadata: {name: a}\n".to_owned(), false),
            ("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\n".to_owned(), false),
            (
                "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\n".to_owned(),
                true,
            ),
            (
                "apiVersion: snapshot.storage.k8s.io/v1\nkind: VolumeSnapshotClass\nmetadata: {name: a}\n"
                    .to_owned(),
                true,
            ),
            (format!("apiVersion: v1\nkind: List\nitems:\n  - {}", CEPH.replace('\n', "\n    ")), true),
            ("a: [".to_owned(), false),
        ] {
            let files = arranged(vec![file(KEPT, "own.yaml", &text)], Some(Vec::new())).expect("arranged");
            let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            let waiting = format!("{FOLDER}/own.json");
            let kept = format!("{KEPT}/own.yaml");
            if waits {
                assert_eq!(paths, [INDEX, waiting.as_str()], "{text}");
                let manifest = Manifest::parse(files[1].text.as_bytes()).expect("a manifest");
                assert_eq!(manifest.laid.expect("laid").text, text);
            } else {
                assert_eq!(paths, [INDEX, kept.as_str()], "{text}");
                assert_eq!(files[1].text, text);
            }
            let index = Index::parse(files[0].text.as_bytes()).expect("an index");
            assert_eq!(index.manifests.len(), usize::from(waits));
        }
    }

    #[test]
    fn what_is_made_once_is_a_document() {
        let node = "apiVersion: longhorn.io/v1beta2\nkind: Node\nmetadata:\n  name: a\n  namespace: b\n  annotations: {kiln/after-node: a}\n";
        let text = format!("{NAMESPACE}---\n# nothing\n---\n{node}");
        let files = arranged(vec![file(FOLDER, "own.yaml", &text)], None).expect("arranged");
        let [made] = &files[..] else { panic!("{} files", files.len()) };
        let manifest = Manifest::parse(made.text.as_bytes()).expect("a manifest");
        assert_eq!(manifest.once.len(), 2);
        assert_eq!(manifest.once[1].after_node.as_deref(), Some("a"));
        assert_eq!(manifest.once[1].object["metadata"], serde_json::json!({"name": "a", "namespace": "b"}));
    }

    #[test]
    fn a_cluster_may_be_large() {
        let one = |at: usize| {
            let disks: String =
                (0..12).map(|disk| format!("    d{disk}: {{path: /a, tags: [a, b], on: true}}\n")).collect();
            format!(
                "---\napiVersion: longhorn.io/v1beta2\nkind: Node\nmetadata: {{name: n{at}}}\nspec:\n  disks:\n{disks}"
            )
        };
        let text: String = (0..2000).map(one).collect();
        let files = arranged(vec![file(FOLDER, "own.yaml", &text)], None).expect("arranged");
        let manifest = Manifest::parse(files[0].text.as_bytes()).expect("a manifest");
        assert_eq!(manifest.once.len(), 2000);
    }

    #[test]
    fn what_no_node_would_take_is_refused() {
        let said = |files: Vec<File>| arranged(files, None).expect_err("refused").to_string();
        let place = format!("{FOLDER}/own.yaml");
        let text = "kind: Secret\nmetadata: {name: a}\ndata: [hunter2\n";
        let mut secret = file(FOLDER, "own.yaml", text);
        secret.secret = true;
        assert_eq!(said(vec![secret]), format!("the manifest {place}: it is no YAML"));
        assert!(
            said(vec![file(FOLDER, "own.yaml", text)])
                .starts_with(&format!("the manifest {place}: it is no YAML: "))
        );
        let nameless = said(vec![file(FOLDER, "own.yaml", "apiVersion: v1\nkind: Secret\n")]);
        assert_eq!(
            nameless,
            format!(
                "the manifest {place}: the manifest own has an object without an apiVersion, a kind or a name"
            )
        );
        assert!(said(vec![file(FOLDER, "o.wn.yaml", NAMESPACE)]).contains("letters, digits"));
        let twice = said(vec![file(FOLDER, "own.yaml", NAMESPACE), file(KEPT, "own.yaml", CEPH)]);
        assert!(twice.contains("two manifests of that name"), "{twice}");
    }
}
