//! `overlays`: names that Kiln knows, and folders of the user's.

use super::base::PathIs;
use super::{Check, PACKAGE, Rule};
use crate::cluster::file::{K3sSection, OverlayItem};
use crate::cluster::model::Overlay;
use crate::cluster::overlay::{self, BUILT_IN, OverlayFile};
use crate::cluster::read::Text;
use crate::cluster::settings::{self, RawMap, Reading, Rules, merged};
use crate::cluster::words;
use crate::diag::{Fault, Report, Severity, nearest};
use std::path::PathBuf;

/// The overlay whose settings stand in `cluster.k3s`.
const K3S: &str = "k3s";

pub(super) const MODULE: Rule = Rule {
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

/// An overlay that is named, before its settings are read.
#[derive(Clone)]
pub(super) struct Layer {
    /// All of it but the settings.
    overlay: Overlay,
    rules: Rules,
    given: Option<RawMap>,
}

impl Check<'_> {
    /// The overlays that all nodes have. `k3s` are the settings of the overlay of that name, which is there with them.
    pub(super) fn layers(
        &mut self,
        items: Option<&Vec<OverlayItem>>,
        k3s: Option<&K3sSection>,
    ) -> Vec<Layer> {
        let layers = self.asked(items, k3s);
        for layer in &layers {
            let twice =
                k3s.is_some() && layer.overlay.name == K3S && layer.given != k3s.map(|k3s| k3s.0.clone());
            if twice {
                let fault = Fault::error("duplicate-overlay", &layer.overlay.span, "k3s has settings twice");
                self.faults.push(fault.label("here, too").help("keep those of `cluster.k3s`"));
            }
        }
        layers
    }

    /// The overlays that a list names, those that they need, and `k3s` where its settings are given.
    fn asked(&mut self, items: Option<&Vec<OverlayItem>>, k3s: Option<&K3sSection>) -> Vec<Layer> {
        let mut layers = Vec::new();
        if let Some(K3sSection(given)) = k3s {
            let name = Text { value: K3S.to_owned(), span: given.0.0.span.clone() };
            self.known_overlay(&name, Some(given), &mut layers);
        }
        let mut seen = super::Seen::new("duplicate-overlay", "the overlay", "keep one of the two");
        for item in items.into_iter().flatten() {
            let name = item.name();
            seen.check(&name.value, &name.span, self.faults);
            if name.value.starts_with('.') || name.value.starts_with('/') {
                self.folder_overlay(name, item.settings(), &mut layers);
            } else {
                self.known_overlay(name, item.settings(), &mut layers);
            }
        }
        layers
    }

    /// The overlays of a node: those of `all`, settled as `settled`, and its own, whose settings go over those.
    pub(super) fn node_overlays(
        &mut self,
        (all, settled): (&[Layer], &[Overlay]),
        items: Option<&Vec<OverlayItem>>,
        k3s: Option<&K3sSection>,
    ) -> Vec<Overlay> {
        let own = self.asked(items, k3s);
        let mut overlays = settled.to_vec();
        for mut layer in own {
            let name = layer.overlay.name.clone();
            let shared = all.iter().find(|shared| shared.overlay.name == name);
            // What another overlay of the node needs is there already.
            if shared.is_some() && layer.given.is_none() {
                continue;
            }
            if let (Some(under), Some(over)) = (shared.and_then(|shared| shared.given.as_ref()), &layer.given)
            {
                layer.given = Some(merged(under, over));
            }
            let overlay = self.settle(&layer);
            match overlays.iter_mut().find(|known| known.name == name) {
                Some(known) => *known = overlay,
                None => overlays.push(overlay),
            }
        }
        overlays
    }

    /// The overlays with their settings read.
    pub(super) fn settled(&mut self, layers: &[Layer]) -> Vec<Overlay> {
        layers.iter().map(|layer| self.settle(layer)).collect()
    }

    fn settle(&mut self, layer: &Layer) -> Overlay {
        let name = &layer.overlay.name;
        let what = if name == K3S { "k3s".to_owned() } else { format!("the overlay `{name}`") };
        let errors =
            |faults: &[Fault]| faults.iter().filter(|fault| fault.severity == Severity::Error).count();
        let before = errors(self.faults);
        let mut reading =
            Reading { faults: self.faults, folder: self.folder, what, place: layer.overlay.span.clone() };
        let settings = reading.settings(layer.given.as_ref(), &layer.rules, &["name"]);
        if errors(self.faults) > before {
            self.unsettled.push((name.clone(), layer.overlay.span.clone()));
        }
        if name == K3S {
            self.flags(&settings);
        }
        Overlay { settings, ..layer.overlay.clone() }
    }

    fn known_overlay(&mut self, name: &Text, given: Option<&RawMap>, layers: &mut Vec<Layer>) {
        // What an earlier one needed is there without settings.
        if let Some(known) = layers.iter_mut().find(|layer| layer.overlay.name == name.value) {
            if given.is_some() {
                known.given = given.cloned();
                known.overlay.span = name.span.clone();
            }
            return;
        }
        if let Some((word, document)) = BUILT_IN.iter().find(|(word, _)| *word == name.value) {
            let (file, faults) = overlay::read(document);
            debug_assert!(faults.is_empty(), "{word}: {faults:?}");
            if let Some(file) = file {
                self.needs(name, &file, layers);
                layers.push(self.layer(name, None, (&file, given)));
            }
            return;
        }
        let have = BUILT_IN.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let ways = format!("this version has {have}; a folder of your own is written `./path`");
        let near = nearest(&name.value, BUILT_IN.iter().map(|(word, _)| *word));
        let help = near.map_or(ways.clone(), |near| format!("did you mean `{near}`? {ways}"));
        let message = format!("there is no overlay `{}`", name.value);
        self.faults.push(Fault::error("unknown-overlay", &name.span, message).label("unknown").help(help));
    }

    fn folder_overlay(&mut self, name: &Text, given: Option<&RawMap>, layers: &mut Vec<Layer>) {
        let Some(folder) = self.path(name, "overlay-path", PathIs::Folder) else { return };
        let document = folder.join("overlay.yaml");
        let source = match overlay::source(&document) {
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
                ..file
            };
            self.needs(name, &file, layers);
            layers.push(self.layer(name, Some(folder), (&file, given)));
        }
    }

    /// Overlays that this one needs go ahead of it.
    fn needs(&mut self, name: &Text, file: &OverlayFile, layers: &mut Vec<Layer>) {
        for need in file.needs.iter().flatten() {
            // A need that is a folder would let overlays need each other in a circle.
            let need = Text { value: need.value.clone(), span: name.span.clone() };
            self.known_overlay(&need, None, layers);
        }
    }

    fn layer(
        &mut self,
        name: &Text,
        folder: Option<PathBuf>,
        (file, given): (&OverlayFile, Option<&RawMap>),
    ) -> Layer {
        let last = name.value.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let overlay = Overlay {
            folder,
            packages: self.set(file.packages.as_ref(), PACKAGE),
            modules: self.set(file.modules.as_ref(), MODULE),
            enable: self.set(file.enable.as_ref(), UNIT),
            roles: file.roles(),
            artefacts: file.artefacts(),
            seed: file.seed_files(),
            folders: file.folders(),
            span: name.span.clone(),
            ..Overlay::new(last)
        };
        // Faults in them were reported when the document was read.
        let rules = settings::compile(file.settings.as_ref(), &mut Vec::new());
        Layer { overlay, rules, given: given.cloned() }
    }
}
