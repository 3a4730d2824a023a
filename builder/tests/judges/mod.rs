//! trixie's cloud-init, which is the one that reads seeds, as a judge: its package is fetched once, as Kiln fetches
//! packages, unpacked below `target/`, and run with the host's Python.
//!
//! Where it can't be had the checks are left out, aloud; `KILN_JUDGES=required` makes that a failure.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on fails, and each test file uses its part of this one"
)]

mod package;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Debian's own Python has the modules that cloud-init needs, and another one may not.
const PYTHON: &str = "/usr/bin/python3";
const PACKAGES: &str = "python3-configobj python3-jinja2 python3-jsonpatch python3-jsonschema python3-oauthlib python3-requests python3-yaml";

/// Checks documents with cloud-init's own schemas, and prints what PyYAML reads in them, as a list. netplan is asked about
/// Wi-Fi: cloud-init's schema of network-config knows none.
const SCHEMAS: &str = r"
import email, json, os, sys, yaml
from cloudinit.config.schema import SchemaType, get_schema, get_schema_dir, validate_cloudconfig_schema
import jsonschema
cloud_config = get_schema(SchemaType.CLOUD_CONFIG)
with open(os.path.join(get_schema_dir(), 'schema-network-config-v2.json')) as file:
    network = json.load(file)
read = []
for path in sys.argv[1:]:
    with open(path, encoding='utf-8') as file:
        text = file.read()
    if text.startswith('Content-Type: multipart'):
        text = email.message_from_string(text).get_payload()[0].get_payload(decode=True).decode()
    document = yaml.safe_load(text)
    read.append(document)
    try:
        if path.endswith('network-config'):
            known = {key: value for key, value in document.items() if key != 'wifis'}
            jsonschema.validate(known, network)
        else:
            validate_cloudconfig_schema(document, cloud_config, strict=True)
    except Exception as error:
        sys.exit(f'{path}:\n{text}\n{error}')
json.dump(read, sys.stdout, default=lambda data: data.decode('latin-1'))
";

/// cloud-init, unpacked.
pub struct CloudInit {
    modules: PathBuf,
}

fn say_skipped(reason: &str) {
    // Past the harness, which keeps what the print macros say to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED: no cloud-init of trixie: {reason}");
    assert!(std::env::var("KILN_JUDGES").is_err(), "KILN_JUDGES wants every judge: {reason}");
}

/// The judge, or none.
pub fn cloud_init() -> Option<&'static CloudInit> {
    static FOUND: OnceLock<Option<CloudInit>> = OnceLock::new();
    let found = FOUND.get_or_init(|| match modules().and_then(|modules| usable(&modules)) {
        Ok(judge) => Some(judge),
        Err(reason) => {
            say_skipped(&reason);
            None
        }
    });
    found.as_ref()
}

fn usable(modules: &Path) -> Result<CloudInit, String> {
    let judge = CloudInit { modules: modules.to_owned() };
    let output = judge.python("import cloudinit.cmd.main, jsonschema", &[]);
    match output.status.success() {
        true => Ok(judge),
        false => Err(format!("its Python modules are missing: apt-get install {PACKAGES}")),
    }
}

fn modules() -> Result<PathBuf, String> {
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    // target/<profile>/deps/<test>
    let shared = exe.ancestors().nth(3).ok_or("no target folder")?.join("kiln-tests");
    package::unpacked(&shared, "cloud-init", "usr/lib/python3/dist-packages")
}

impl CloudInit {
    fn python(&self, script: &str, arguments: &[&Path]) -> Output {
        let python = if Path::new(PYTHON).exists() { PYTHON } else { "python3" };
        let mut command = Command::new(python);
        command.arg("-c").arg(script).args(arguments).env("PYTHONPATH", &self.modules);
        command.env("PYTHONDONTWRITEBYTECODE", "1").output().expect("Python")
    }

    /// What a script of Python's prints, with cloud-init's modules at hand.
    pub fn script(&self, script: &str, arguments: &[&Path]) -> String {
        let output = self.python(script, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The program with these arguments: what it says, as an error when it fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let script =
            "import sys\nfrom cloudinit.cmd.main import main\nsys.exit(main(['cloud-init'] + sys.argv[1:]))";
        let arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
        let output = self.python(script, &arguments);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// What PyYAML reads in these files, all of which the schemas must take.
    pub fn read(&self, paths: &[PathBuf]) -> Vec<serde_json::Value> {
        let arguments: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let output = self.python(SCHEMAS, &arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// Writes `text` to `<folder>/<name>`.
pub fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path
}
