//! The table of settings, made of what `schema` declares: finds a setting by its name, and the one that was
//! probably meant by a name that is none. It does not know the layers, nor what anybody set.

use super::keys::{Key, Section};
use super::schema;

/// Bytes of an unknown key up to which a similar known one is looked for; the search costs with its length.
const SIMILAR_BYTES_MAX: usize = 128;

/// All sections, in the order of the reference file.
pub fn sections() -> &'static [Section] {
    schema::SECTIONS
}

/// All settings, in the order of the reference file.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    sections().iter().flat_map(|section| section.keys)
}

/// What a name stands for, given as its parts.
pub(super) enum Named {
    /// A setting.
    Key(&'static Key),
    /// A section, which has no value of its own.
    Section(&'static Section),
    /// Nothing.
    Nothing,
}

/// Looks a name up. Parts are compared one by one, so a quoted part with a dot inside stands for nothing.
pub(super) fn look_up(parts: &[&str]) -> Named {
    let is_named = |name: &str| name.split('.').eq(parts.iter().copied());
    if let Some(key) = keys().find(|key| is_named(key.name)) {
        return Named::Key(key);
    }
    sections().iter().find(|section| is_named(section.name)).map_or(Named::Nothing, Named::Section)
}

/// What is right where a section's name stands instead of a setting's.
pub(super) fn section_expected(section: &Section) -> String {
    let inside = |key: &&Key| key.name.strip_prefix(section.name).is_some_and(|rest| rest.starts_with('.'));
    let names: Vec<_> = keys().filter(inside).map(|key| key.name).collect();
    format!("a section, with {}", names.join(", "))
}

/// The setting that was probably meant by an unknown name: one with few letters wrong, or else the only one
/// whose last part is the same, as far as the sections before it are right.
pub(super) fn nearest(unknown: &str) -> Option<&'static Key> {
    if unknown.len() > SIMILAR_BYTES_MAX {
        return None;
    }
    let unknown = unknown.to_ascii_lowercase().replace('-', "_");
    let distance = |key: &Key| strsim::damerau_levenshtein(&unknown, key.name);
    let similar = keys().min_by_key(|key| distance(key));
    if let Some(key) = similar.filter(|key| distance(key) <= 2.max(unknown.len() / 5)) {
        return Some(key);
    }
    let (section, leaf) = unknown.rsplit_once('.').unwrap_or(("", &unknown));
    let known_section = sections().iter().any(|known| known.name == section);
    let mut same_leaf =
        keys().filter(|key| key.leaf() == leaf && (!known_section || key.name.starts_with(section)));
    same_leaf.next().filter(|_| same_leaf.next().is_none())
}
