//! The kernel modules of the initramfs, from depmod's text files in the root (kmod, modules.dep(5)).

use super::{Error, Options, Program, drivers, file, kernel};
use kiln_formats::tree::{Content, Tree};
use liblzma::read::XzDecoder;
use liblzma::stream::Stream;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;

/// A chosen module.
#[derive(Debug)]
pub(super) struct Module {
    /// Path below the release's directory, without a compression suffix: `kernel/fs/ext4/ext4.ko`.
    pub(super) path: String,
    /// Its bytes, not compressed.
    pub(super) bytes: Vec<u8>,
}

/// What goes into the initramfs.
#[derive(Debug)]
pub(super) struct Selection {
    /// Sorted by path.
    pub(super) modules: Vec<Module>,
    /// (file name, text) of depmod's files, cut down to the chosen modules.
    pub(super) index: Vec<(&'static str, String)>,
}

/// Chooses by [`drivers`], with everything that the chosen ones need, and decompresses.
pub(super) fn select(root: &Tree, release: &str, options: &Options) -> Result<Selection, Error> {
    let directory = format!("{}/{release}", kernel::MODULES);
    let index = Index::read(root, &directory)?;
    let chosen = index.closure(index.wanted(&options.programs));
    let jobs: Vec<(&str, &Content)> = chosen
        .iter()
        .map(|path| {
            let at = format!("{directory}/{path}");
            let content = file(root, &at).ok_or(Error::Missing { path: at, package: "linux-image-amd64" })?;
            Ok((*path, content))
        })
        .collect::<Result<_, Error>>()?;
    Ok(Selection { modules: decompress_all(&jobs, options.threads)?, index: index.cut_to(&chosen) })
}

/// The name that the kernel has for a module file: no directory, no suffix, underscores.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// `kernel/a/b.ko.xz` without what compression added.
fn plain(path: &str) -> &str {
    path.find(".ko.").map_or(path, |at| &path[..at + 3])
}

struct Index {
    /// Path to the paths it needs.
    dependencies: BTreeMap<String, Vec<String>>,
    names: HashMap<String, String>,
    aliases: String,
    /// Aliases without a bus, by which soft dependencies name a service: `crypto-crc32c`.
    services: HashMap<String, Vec<String>>,
    soft: String,
}

impl Index {
    fn read(root: &Tree, directory: &str) -> Result<Self, Error> {
        let text = |name: &str| -> Result<String, Error> {
            let path = format!("{directory}/{name}");
            let content = file(root, &path).ok_or_else(|| Error::NoIndex(path.clone()))?;
            let bytes = content.read().map_err(|source| Error::Read { path: path.clone(), source })?;
            String::from_utf8(bytes).map_err(|_| Error::NoIndex(path))
        };
        let dep = text("modules.dep")?;
        let lines = dep.lines().filter_map(|line| line.split_once(':'));
        let dependencies: BTreeMap<String, Vec<String>> = lines
            .map(|(path, needs)| {
                (path.to_owned(), needs.split_ascii_whitespace().map(str::to_owned).collect())
            })
            .collect();
        let names = dependencies.keys().map(|path| (name_of(path), path.clone())).collect();
        let aliases = text("modules.alias")?;
        let mut services: HashMap<String, Vec<String>> = HashMap::new();
        for line in aliases.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some("alias"), Some(alias), Some(module)) = (words.next(), words.next(), words.next())
                && !alias.contains([':', '*'])
            {
                services.entry(alias.replace('-', "_")).or_default().push(module.replace('-', "_"));
            }
        }
        Ok(Self { dependencies, names, aliases, services, soft: text("modules.softdep").unwrap_or_default() })
    }

    fn wanted(&self, programs: &BTreeSet<Program>) -> BTreeSet<&str> {
        let in_directory = self.dependencies.keys().map(String::as_str).filter(|path| {
            let below = path.strip_prefix("kernel/").and_then(|path| path.rsplit_once('/'));
            below.is_some_and(|(directory, _)| drivers::DIRECTORIES.contains(&directory))
                && !drivers::EXCEPT.contains(&name_of(path).as_str())
        });
        let asked = programs.iter().flat_map(|program| drivers::of(*program));
        let names = drivers::NAMES.iter().chain(asked);
        let named = names.filter_map(|name| self.names.get(*name)).map(String::as_str);
        in_directory.chain(named).collect()
    }

    /// With all that these need, and what they would like before and after themselves.
    fn closure<'a>(&'a self, wanted: BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        let soft = self.soft_dependencies();
        let mut chosen = BTreeSet::new();
        let mut open: Vec<&str> = wanted.into_iter().collect();
        while let Some(path) = open.pop() {
            if !chosen.insert(path) {
                continue;
            }
            open.extend(self.dependencies.get(path).into_iter().flatten().map(String::as_str));
            for name in soft.get(&name_of(path)).into_iter().flatten() {
                let named = std::iter::once(name).chain(self.services.get(name).into_iter().flatten());
                open.extend(named.filter_map(|name| self.names.get(name)).map(String::as_str));
            }
        }
        chosen
    }

    fn soft_dependencies(&self) -> HashMap<String, Vec<String>> {
        let mut soft: HashMap<String, Vec<String>> = HashMap::new();
        for line in self.soft.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some("softdep"), Some(module)) = (words.next(), words.next()) {
                let names = words.filter(|word| !matches!(*word, "pre:" | "post:"));
                let entry = soft.entry(module.replace('-', "_")).or_default();
                entry.extend(names.map(|name| name.replace('-', "_")));
            }
        }
        soft
    }

    fn cut_to(&self, chosen: &BTreeSet<&str>) -> Vec<(&'static str, String)> {
        let names: BTreeSet<String> = chosen.iter().map(|path| name_of(path)).collect();
        let dep = chosen.iter().map(|path| {
            let needs = self.dependencies.get(*path).into_iter().flatten();
            let needs: String = needs.map(|need| format!(" {}", plain(need))).collect();
            format!("{}:{needs}\n", plain(path))
        });
        let of_chosen = |text: &str, keyword: &str, at: usize| -> String {
            let lines = text.lines().filter(|line| {
                let mut words = line.split_ascii_whitespace();
                words.next() == Some(keyword)
                    && words.nth(at).is_some_and(|name| names.contains(&name.replace('-', "_")))
            });
            lines.flat_map(|line| [line, "\n"]).collect()
        };
        vec![
            ("modules.alias", of_chosen(&self.aliases, "alias", 1)),
            ("modules.dep", dep.collect()),
            ("modules.softdep", of_chosen(&self.soft, "softdep", 0)),
        ]
    }
}

/// Decompresses on `threads` threads; the result keeps the order of the jobs.
fn decompress_all(jobs: &[(&str, &Content)], threads: usize) -> Result<Vec<Module>, Error> {
    let share = jobs.len().div_ceil(threads.max(1)).max(1);
    let results: Vec<Result<Module, Error>> = std::thread::scope(|scope| {
        let workers: Vec<_> = jobs
            .chunks(share)
            .map(|jobs| scope.spawn(move || jobs.iter().map(decompress).collect::<Vec<_>>()))
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.flat_map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    results.into_iter().collect()
}

/// No module unpacks to more bytes; xz's largest preset wants less memory.
const MOST_MODULE: u64 = 128 << 20;

fn unpack(module: impl Read, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    match module.take(MOST_MODULE + 1).read_to_end(bytes)? as u64 > MOST_MODULE {
        true => Err(std::io::ErrorKind::FileTooLarge.into()),
        false => Ok(()),
    }
}

fn decompress((path, content): &(&str, &Content)) -> Result<Module, Error> {
    let fault = |source| Error::Read { path: (*path).to_owned(), source };
    let stored = content.read_at_most(MOST_MODULE).map_err(fault)?;
    let mut bytes = Vec::new();
    let suffix = path.rsplit('.').next().unwrap_or_default();
    match suffix {
        "xz" => {
            let stream = Stream::new_stream_decoder(MOST_MODULE, 0).map_err(|error| fault(error.into()))?;
            unpack(XzDecoder::new_stream(&stored[..], stream), &mut bytes).map_err(fault)?
        }
        "zst" => zstd::Decoder::with_buffer(&stored[..])
            .and_then(|decoder| unpack(decoder, &mut bytes))
            .map_err(fault)?,
        "ko" => bytes = stored,
        _ => {
            let kind = std::io::Error::other(format!("modules compressed as .{suffix} are not known"));
            return Err(fault(kind));
        }
    }
    Ok(Module { path: plain(path).to_owned(), bytes })
}

/// Firmware that a module asks for: `firmware=` in its .modinfo section (Linux, MODULE_FIRMWARE). The section is a
/// run of NUL-ended strings, so it needs no ELF reader; a chance hit elsewhere names a file that isn't there.
pub(super) fn firmware_of(module: &[u8]) -> BTreeSet<String> {
    const KEY: &[u8] = b"\0firmware=";
    let mut names = BTreeSet::new();
    let mut rest = module;
    while let Some(at) = rest.windows(KEY.len()).position(|window| window == KEY) {
        rest = &rest[at + KEY.len()..];
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        if let Ok(name) = std::str::from_utf8(&rest[..end])
            && !name.split('/').any(|part| matches!(part, "" | "." | ".."))
        {
            names.insert(name.to_owned());
        }
    }
    names
}
