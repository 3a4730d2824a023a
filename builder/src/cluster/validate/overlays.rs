//! `overlays`: names that Kiln knows, and folders of the user's.

use super::base::PathIs;
use super::{Check, PACKAGE, Rule};
use crate::cluster::file::OverlayItem;
use crate::cluster::model::Overlay;
use crate::cluster::overlay::{self, BUILT_IN, LATER, OverlayFile};
use crate::cluster::read::Text;
use crate::cluster::words;
use crate::diag::{Fault, Report, nearest};
use std::path::PathBuf;

const MODULE: Rule = Rule {
    check: words::module,
    what: "a kernel module",
    code: "module",
    help: "write the module's name as `lsmod` shows it, such as `dm_crypt`",
};

const UNIT: Rule = Rule {
    check: words::unit,
    what: "systemd unit",
    code: "unit",
    help: "write the unit's whole name, such as `iscsid.socket`",
};

impl Check<'_> {
    pub(super) fn overlays(&mut self, items: Option<&Vec<OverlayItem>>) -> Vec<Overlay> {
        let mut overlays = Vec::new();
        let mut seen = super::Seen::new("duplicate-overlay", "the overlay", "keep one of the two");
        for name in items.into_iter().flatten().filter_map(OverlayItem::name) {
            seen.check(&name.value, &name.span, self.faults);
            if name.value.starts_with('.') || name.value.starts_with('/') {
                self.folder_overlay(name, &mut overlays);
            } else {
                self.known_overlay(name, &mut overlays);
            }
        }
        overlays
    }

    fn known_overlay(&mut self, name: &Text, overlays: &mut Vec<Overlay>) {
        if overlays.iter().any(|overlay| overlay.name == name.value) {
            return;
        }
        if let Some((word, document)) = BUILT_IN.iter().find(|(word, _)| *word == name.value) {
            let (file, faults) = overlay::read(document);
            debug_assert!(faults.is_empty(), "{word}: {faults:?}");
            if let Some(file) = file {
                self.needs(name, &file, overlays);
                overlays.push(self.overlay(name, None, &file));
            }
            return;
        }
        let have = BUILT_IN.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let ways = format!("this version has {have}; a folder of your own is written `./path`");
        let fault = if LATER.contains(&name.value.as_str()) {
            let message = format!("the overlay `{}` is not in this version of kiln", name.value);
            Fault::error("overlay-later", &name.span, message).label("not yet").help(ways)
        } else {
            let near =
                nearest(&name.value, BUILT_IN.iter().map(|(word, _)| *word).chain(LATER.iter().copied()));
            let help = near.map_or(ways.clone(), |near| format!("did you mean `{near}`? {ways}"));
            let message = format!("there is no overlay `{}`", name.value);
            Fault::error("unknown-overlay", &name.span, message).label("unknown").help(help)
        };
        self.faults.push(fault);
    }

    fn folder_overlay(&mut self, name: &Text, overlays: &mut Vec<Overlay>) {
        let Some(folder) = self.path(name, "overlay-path", PathIs::Folder) else { return };
        let document = folder.join("overlay.yaml");
        let source = match std::fs::read_to_string(&document) {
            Ok(source) => source,
            Err(error) => {
                let message = format!("{}: {error}", document.display());
                let fault = Fault::error("overlay-path", &name.span, message).label("this overlay");
                self.faults.push(fault.help(
                    "an overlay is a folder with an `overlay.yaml`, which may be as short as `packages: []`",
                ));
                return;
            }
        };
        let (file, faults) = overlay::read(&source);
        let report = Report::new(&document, &source, faults);
        for fault in report.faults() {
            let (line, column) = report.place(fault.span.start);
            let message = format!("{}:{line}:{column}: {}", document.display(), fault.message);
            let fault = Fault {
                message,
                span: name.span.clone(),
                label: "this overlay".to_owned(),
                also: None,
                ..fault.clone()
            };
            self.faults.push(fault);
        }
        if let Some(file) = file.filter(|_| report.faults().is_empty()) {
            // Words of that file have no place in this one: faults in them point at the overlay's name.
            let here = |texts: Option<Vec<Text>>| {
                texts.map(|texts| {
                    texts.into_iter().map(|text| Text { span: name.span.clone(), ..text }).collect()
                })
            };
            let file = OverlayFile {
                needs: here(file.needs),
                packages: here(file.packages),
                modules: here(file.modules),
                enable: here(file.enable),
                summary: None,
                span: name.span.clone(),
            };
            self.needs(name, &file, overlays);
            overlays.push(self.overlay(name, Some(folder), &file));
        }
    }

    /// Overlays that this one needs go ahead of it.
    fn needs(&mut self, name: &Text, file: &OverlayFile, overlays: &mut Vec<Overlay>) {
        for need in file.needs.iter().flatten() {
            // A need that is a folder would let overlays need each other in a circle.
            self.known_overlay(&Text { value: need.value.clone(), span: name.span.clone() }, overlays);
        }
    }

    fn overlay(&mut self, name: &Text, folder: Option<PathBuf>, file: &OverlayFile) -> Overlay {
        let last = name.value.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        Overlay {
            name: last.to_owned(),
            folder,
            packages: self.set(file.packages.as_ref(), PACKAGE),
            modules: self.set(file.modules.as_ref(), MODULE),
            enable: self.set(file.enable.as_ref(), UNIT),
        }
    }
}
