//! `locale` and `keyboard`, of all nodes and of one.

use super::Check;
use crate::cluster::file::{KeyboardItem, KeyboardSection};
use crate::cluster::model::Keyboard;
use crate::cluster::read::Text;
use crate::cluster::words::{keyboards, locales};
use crate::diag::{Fault, nearest};

impl Check<'_> {
    /// A locale that glibc finds on the node.
    pub(super) fn locale(&mut self, text: &Text) -> Option<String> {
        let name = text.value.as_str();
        if locales::is_known(name) {
            return Some(name.to_owned());
        }
        // `de`, `de_DE`, `de_DE.utf8` and `de-DE` all mean one.
        let plain = name.split(['.', '@']).next().unwrap_or_default().replace('-', "_");
        let doubled = format!("{plain}_{}", plain.to_ascii_uppercase());
        let meant = [format!("{plain}.UTF-8"), plain.clone(), format!("{doubled}.UTF-8")];
        let near = meant.iter().find(|name| locales::is_known(name)).map(String::as_str);
        let near = near.or_else(|| nearest(name, locales::all()));
        let fault = Fault::error("locale", &text.span, format!("trixie has no locale {name:?} in UTF-8"));
        self.faults.push(fault.label("unknown").help(near.map_or_else(
            || "write it as `locale -a` does, such as `de_DE.UTF-8`, or leave it out: `C.UTF-8`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        )));
        None
    }

    /// A keyboard of which xkb-data has all.
    pub(super) fn keyboard(&mut self, item: &KeyboardItem) -> Option<Keyboard> {
        let (layout, section) = match item {
            KeyboardItem::Layout(layout) => (layout, None),
            KeyboardItem::Section(section) => (section.layout.as_ref()?, Some(section)),
        };
        let all = keyboards::all();
        let names: Vec<&str> = all.layouts.keys().copied().collect();
        let mut sound = self.each(layout, "a keyboard layout", &names);
        let part =
            |of: fn(&KeyboardSection) -> &Option<Text>| section.and_then(|section| of(section).as_ref());
        if let Some(model) = part(|section| &section.model) {
            let names: Vec<&str> = all.models.iter().copied().collect();
            sound &= self.each(model, "a model of keyboards", &names);
        }
        if let Some(options) = part(|section| &section.options).filter(|options| !options.value.is_empty()) {
            let names: Vec<&str> = all.options.iter().copied().collect();
            sound &= self.each(options, "an option of keyboards", &names);
        }
        let variant = part(|section| &section.variant).filter(|variant| !variant.value.is_empty());
        if let Some(variant) = variant.filter(|_| sound) {
            sound &= self.variants(variant, layout);
        }
        let or =
            |text: Option<&Text>, default: &str| text.map_or(default, |text| text.value.as_str()).to_owned();
        sound.then(|| Keyboard {
            layout: layout.value.clone(),
            variant: or(variant, ""),
            model: or(part(|section| &section.model), "pc105"),
            options: or(part(|section| &section.options), ""),
        })
    }

    /// Whether all words between commas are among `known`.
    fn each(&mut self, text: &Text, what: &str, known: &[&str]) -> bool {
        let unknown = text.value.split(',').find(|word| !known.contains(word));
        if let Some(word) = unknown {
            self.keyboard_fault(word, text, (what, known));
        }
        unknown.is_none()
    }

    /// Whether each layout has its variant.
    fn variants(&mut self, variant: &Text, layout: &Text) -> bool {
        let layouts: Vec<&str> = layout.value.split(',').collect();
        let variants: Vec<&str> = variant.value.split(',').collect();
        if variants.len() > layouts.len() {
            let message = format!("there are more variants than layouts ({})", layouts.len());
            let fault = Fault::error("keyboard", &variant.span, message).label("too many");
            self.faults
                .push(fault.help("write one for each layout, and nothing between two commas for none"));
            return false;
        }
        for (variant_of, name) in layouts.iter().zip(variants) {
            let known = keyboards::all().layouts.get(variant_of).map(Vec::as_slice).unwrap_or_default();
            if !name.is_empty() && !known.contains(&name) {
                self.keyboard_fault(
                    name,
                    variant,
                    (&format!("a variant of the layout `{variant_of}`"), known),
                );
                return false;
            }
        }
        true
    }

    fn keyboard_fault(&mut self, word: &str, text: &Text, (what, known): (&str, &[&str])) {
        let help = match nearest(word, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            // A list of hundreds is good for nothing.
            None if known.len() > 20 => {
                "write it as xkeyboard-config(7) does, such as `layout: de`".to_owned()
            }
            None if known.is_empty() => "leave it out: this layout has none".to_owned(),
            None => format!("possible here: {}", known.join(", ")),
        };
        let fault = Fault::error("keyboard", &text.span, format!("`{word}` is not {what}"));
        self.faults.push(fault.label("unknown").help(help));
    }
}
