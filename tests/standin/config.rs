//! k3s' configuration: flags over `config.yaml.d/*.yaml` over `config.yaml`, keys being the flags' names.

use crate::Outcome;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FOLDER: &str = "/etc/rancher/k3s";

/// What the stand-in was told.
#[derive(Clone)]
pub(crate) struct Config {
    root: PathBuf,
    keys: Map<String, Value>,
}

impl Config {
    /// From files and flags (`--key=value` or `--key value`).
    pub(crate) fn read(flags: &[String]) -> Outcome<Self> {
        let root = std::env::var_os("K3S_STANDIN_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let mut config = Self { root, keys: Map::new() };
        let folder = config.path(FOLDER);
        let more = fs::read_dir(folder.join("config.yaml.d")).into_iter().flatten();
        let mut more: Vec<PathBuf> = more.filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.retain(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"));
        more.sort();
        for path in [folder.join("config.yaml")].into_iter().chain(more) {
            if path.exists() {
                for (key, value) in mapping(&path)? {
                    config.lay(key, value);
                }
            }
        }
        let mut flags = flags.iter();
        while let Some(flag) = flags.next() {
            let flag = flag.strip_prefix("--").ok_or_else(|| format!("{flag} is no flag"))?;
            let (key, value) = match flag.split_once('=') {
                Some((key, value)) => (key, value.to_owned()),
                None if flag == "cluster-init" => (flag, "true".to_owned()),
                None => (flag, flags.next().ok_or_else(|| format!("--{flag} wants a value"))?.clone()),
            };
            config.keys.insert(key.to_owned(), Value::String(value));
        }
        Ok(config)
    }

    /// A file's key goes over what is there; with a `+` behind it, it adds to a list (k3s, pkg/configfilearg/parser.go).
    fn lay(&mut self, key: String, value: Value) {
        let Some(list) = key.strip_suffix('+') else {
            self.keys.insert(key, value);
            return;
        };
        let each = |value: Value| match value {
            Value::Array(all) => all,
            one => vec![one],
        };
        let mut all = self.keys.remove(list).map(each).unwrap_or_default();
        all.extend(each(value));
        self.keys.insert(list.to_owned(), Value::Array(all));
    }

    /// A path below the root.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A key's text; numbers and truth as text.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        match self.keys.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
            other => Some(other.to_string()),
        }
    }

    /// A key that may stand once or as a list.
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        match self.keys.get(key) {
            Some(Value::Array(all)) => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => self.text(key).map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default(),
        }
    }

    /// `token` or what is in `token-file`; the same for `agent-token`.
    pub(crate) fn token(&self, key: &str) -> Outcome<Option<String>> {
        if let Some(text) = self.text(key) {
            return Ok(Some(text));
        }
        let Some(file) = self.text(&format!("{key}-file")) else { return Ok(None) };
        let text = fs::read_to_string(self.path(&file)).map_err(|error| format!("{file}: {error}"))?;
        Ok(Some(text.trim().to_owned()))
    }

    /// The node's name: as told, else the host's.
    pub(crate) fn node(&self) -> Outcome<String> {
        let host = || fs::read_to_string("/proc/sys/kernel/hostname");
        Ok(self.text("node-name").map_or_else(host, Ok)?.trim().to_lowercase())
    }

    /// A port, and k3s' own default for it.
    pub(crate) fn port(&self, key: &str, default: u16) -> Outcome<u16> {
        Ok(self.text(key).map_or(Ok(default), |text| text.parse())?)
    }
}

fn mapping(path: &Path) -> Outcome<Map<String, Value>> {
    let text = fs::read_to_string(path)?;
    let value: Value =
        serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    match value {
        Value::Object(keys) => Ok(keys),
        Value::Null => Ok(Map::new()),
        _ => Err(format!("{} is no mapping", path.display()).into()),
    }
}

/// Seconds in an environment variable.
pub(crate) fn seconds(name: &str, default: f64) -> Duration {
    let text = std::env::var(name).ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(text.unwrap_or(default))
}

/// Writes a file that root alone reads, and its folders.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Outcome<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    let beside = path.with_extension("new");
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes.as_ref())?;
    fs::rename(&beside, path)?;
    Ok(())
}
